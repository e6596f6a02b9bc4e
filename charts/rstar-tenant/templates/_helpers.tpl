{{/* The tenant's namespace. */}}
{{- define "rstar-tenant.namespace" -}}
{{ required "namespace is needed: the name of the tenant's namespace" .Values.namespace }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "rstar-tenant.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/part-of: rstar
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Metadata of an object in the tenant's namespace. Takes root, name. */}}
{{- define "rstar-tenant.metadata" -}}
name: {{ .name }}
namespace: {{ include "rstar-tenant.namespace" .root }}
labels:
  {{- include "rstar-tenant.labels" .root | nindent 2 }}
{{- end }}

{{/* Metadata of an object of this tenant in the release's namespace. Takes root. */}}
{{- define "rstar-tenant.admin-metadata" -}}
name: rstar-tenant-{{ include "rstar-tenant.namespace" .root }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "rstar-tenant.labels" .root | nindent 2 }}
{{- end }}

{{/* The arguments of rstar-namespace's templates, as YAML. */}}
{{- define "rstar-tenant.shared" -}}
namespace: {{ include "rstar-tenant.namespace" . }}
labels: {{ include "rstar-tenant.labels" . | toJson }}
policies: {{ toJson .Values.networkPolicies }}
{{- end }}

{{/* The tenant's policy in MinIO: its own folder of the bucket. */}}
{{- define "rstar-tenant.policy" -}}
{{ tpl (.Files.Get "files/tenant-policy.json") . | trim }}
{{- end }}

{{/* The tenant's access key. */}}
{{- define "rstar-tenant.access-key" -}}
{{ .Values.storage.accessKey | default (include "rstar-tenant.namespace" .) }}
{{- end }}

{{/* The tenant's users and groups as subjects, as JSON. */}}
{{- define "rstar-tenant.subjects" -}}
{{- $subjects := list }}
{{- range .Values.access.users }}
{{- $subjects = append $subjects (dict "apiGroup" "rbac.authorization.k8s.io" "kind" "User" "name" .) }}
{{- end }}
{{- range .Values.access.groups }}
{{- $subjects = append $subjects (dict "apiGroup" "rbac.authorization.k8s.io" "kind" "Group" "name" .) }}
{{- end }}
{{- toJson $subjects }}
{{- end }}
