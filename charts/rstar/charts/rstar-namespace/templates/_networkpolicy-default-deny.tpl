{{/*
The selected pods have neither ingress nor egress; the other policies allow what each component needs. Takes namespace,
labels, pods (matchLabels; empty: every pod of the namespace).
*/}}
{{- define "rstar-namespace.networkpolicy.default-deny" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "rstar-namespace.metadata" (merge (dict "name" "rstar-default-deny") .) | nindent 2 }}
spec:
  podSelector:
    {{- with .pods }}
    matchLabels:
      {{- toYaml . | nindent 6 }}
    {{- else }} {}
    {{- end }}
  policyTypes: [Ingress, Egress]
{{- end }}
