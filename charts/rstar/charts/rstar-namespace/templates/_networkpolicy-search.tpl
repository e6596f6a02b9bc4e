{{/* Stages, the endpoint and the clients of policies call it; it calls the other three services. Takes namespace, labels, policies (the networkPolicies values). */}}
{{- define "rstar-namespace.networkpolicy.search" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "rstar-namespace.metadata" (merge (dict "name" "rstar-search") .) | nindent 2 }}
spec:
  {{- include "rstar-namespace.pods" "search" | nindent 2 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - {{ include "rstar-namespace.pods" "stage" | indent 10 | trim }}
        - {{ include "rstar-namespace.pods" "openai" | indent 10 | trim }}
        {{- with .policies.clients.peers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {port: 50054, protocol: TCP}
    {{- include "rstar-namespace.from-metrics" .policies | nindent 4 }}
  egress:
    {{- include "rstar-namespace.to-dns" .policies | nindent 4 }}
    {{- include "rstar-namespace.to" .policies.telemetry | nindent 4 }}
    {{- range $component, $port := dict "policy" 50051 "ppm" 50052 "executor" 50053 }}
    - to:
        - {{ include "rstar-namespace.pods" $component | indent 10 | trim }}
      ports:
        - {port: {{ $port }}, protocol: TCP}
    {{- end }}
{{- end }}
