{{/*
Executors run programs written by a model. Coordinators call them; they call nobody, not even DNS: there is no egress
rule. Takes namespace, labels, policies (the networkPolicies values).
*/}}
{{- define "rstar-namespace.networkpolicy.executor" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "rstar-namespace.metadata" (merge (dict "name" "rstar-executor") .) | nindent 2 }}
spec:
  {{- include "rstar-namespace.pods" "executor" | nindent 2 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - {{ include "rstar-namespace.pods" "search" | indent 10 | trim }}
      ports:
        - {port: 50053, protocol: TCP}
    {{- include "rstar-namespace.from-metrics" .policies | nindent 4 }}
{{- end }}
