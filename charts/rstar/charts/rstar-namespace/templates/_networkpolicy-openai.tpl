{{/* The web clients of policies call it; it calls coordinators. Takes namespace, labels, policies (the networkPolicies values). */}}
{{- define "rstar-namespace.networkpolicy.openai" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "rstar-namespace.metadata" (merge (dict "name" "rstar-openai") .) | nindent 2 }}
spec:
  {{- include "rstar-namespace.pods" "openai" | nindent 2 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- with .policies.webClients.peers }}
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - {port: 8000, protocol: TCP}
    {{- end }}
    {{- include "rstar-namespace.from-metrics" .policies | nindent 4 }}
  egress:
    {{- include "rstar-namespace.to-dns" .policies | nindent 4 }}
    - to:
        - {{ include "rstar-namespace.pods" "search" | indent 10 | trim }}
      ports:
        - {port: 50054, protocol: TCP}
{{- end }}
