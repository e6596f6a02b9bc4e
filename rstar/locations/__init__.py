"""Where rounds are: a store on this machine or a namespace of a cluster, for the commands and for ``rstar.Rounds``."""
