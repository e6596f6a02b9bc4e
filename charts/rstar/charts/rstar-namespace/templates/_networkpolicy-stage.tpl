{{/*
Stages search, read and write data, report progress to the API server, and train together: torchrun meets on one port
and then talks on any. Takes namespace, labels, policies (the networkPolicies values).
*/}}
{{- define "rstar-namespace.networkpolicy.stage" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "rstar-namespace.metadata" (merge (dict "name" "rstar-stage") .) | nindent 2 }}
spec:
  {{- include "rstar-namespace.pods" "stage" | nindent 2 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - {{ include "rstar-namespace.pods" "stage" | indent 10 | trim }}
    {{- include "rstar-namespace.from-metrics" .policies | nindent 4 }}
  egress:
    {{- include "rstar-namespace.to-dns" .policies | nindent 4 }}
    - to:
        - {{ include "rstar-namespace.pods" "search" | indent 10 | trim }}
      ports:
        - {port: 50054, protocol: TCP}
    - to:
        - {{ include "rstar-namespace.pods" "stage" | indent 10 | trim }}
    {{- include "rstar-namespace.to" .policies.apiServer | nindent 4 }}
    {{- include "rstar-namespace.to-data" .policies | nindent 4 }}
    {{- include "rstar-namespace.to" .policies.telemetry | nindent 4 }}
{{- end }}
