# A format with a width that makes gigabytes of text.
# expect: memory
# limits: memory_mib=96
'{:>{}}'.format('x', 10**11)
