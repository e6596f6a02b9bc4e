{{/* Pods of one component in the same namespace, made by the chart or by the operator. Takes the component. */}}
{{- define "rstar-namespace.pods" -}}
podSelector:
  matchLabels:
    app.kubernetes.io/part-of: rstar
    app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Metadata of a policy. Takes name, namespace, labels. */}}
{{- define "rstar-namespace.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace }}
labels:
  {{- .labels | nindent 2 }}
{{- end }}

{{/*
Egress to peers on TCP ports. Takes peers, ports. Without peers there is no rule: a rule whose list is empty means
everyone.
*/}}
{{- define "rstar-namespace.to" -}}
{{- if .peers -}}
- to:
    {{- toYaml .peers | nindent 4 }}
  ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}

{{/* Egress to the cluster's DNS. Takes the networkPolicies values. */}}
{{- define "rstar-namespace.to-dns" -}}
{{- if .dns.peers -}}
- to:
    {{- toYaml .dns.peers | nindent 4 }}
  ports:
    {{- range .dns.ports }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}

{{/* Egress to models and data: the object store, MinIO in this namespace, the hub. Takes the networkPolicies values. */}}
{{- define "rstar-namespace.to-data" -}}
{{ include "rstar-namespace.to" .objectStore }}
{{ include "rstar-namespace.to" .hub }}
- to:
    - {{ include "rstar-namespace.pods" "minio" | indent 6 | trim }}
  ports:
    - {port: 9000, protocol: TCP}
{{- end }}

{{/* Ingress to the metrics port. Takes the networkPolicies values. */}}
{{- define "rstar-namespace.from-metrics" -}}
{{- if .metrics.peers -}}
- from:
    {{- toYaml .metrics.peers | nindent 4 }}
  ports:
    - {port: 9090, protocol: TCP}
{{- end }}
{{- end }}
