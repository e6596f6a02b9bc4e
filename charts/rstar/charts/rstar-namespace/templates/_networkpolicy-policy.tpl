{{/* Coordinators call it; it fetches its model. Takes namespace, labels, policies (the networkPolicies values). */}}
{{- define "rstar-namespace.networkpolicy.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "rstar-namespace.metadata" (merge (dict "name" "rstar-policy") .) | nindent 2 }}
spec:
  {{- include "rstar-namespace.pods" "policy" | nindent 2 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - {{ include "rstar-namespace.pods" "search" | indent 10 | trim }}
      ports:
        - {port: 50051, protocol: TCP}
    {{- include "rstar-namespace.from-metrics" .policies | nindent 4 }}
  egress:
    {{- include "rstar-namespace.to-dns" .policies | nindent 4 }}
    {{- include "rstar-namespace.to-data" .policies | nindent 4 }}
    {{- include "rstar-namespace.to" .policies.telemetry | nindent 4 }}
{{- end }}
