{{/* All that the operator may do in a namespace with rounds. Secrets are not among it. */}}
{{- define "rstar.operator.rules" -}}
- apiGroups: [rstar.dev]
  resources: [evolutionrounds]
  # patch: only the finalizer, only where the user asked for the deletion of artefacts
  verbs: [get, list, watch, patch]
- apiGroups: [rstar.dev]
  resources: [evolutionrounds/status]
  verbs: [update]
- apiGroups: [rstar.dev]
  resources: [evolutionrounds/finalizers]
  # asked for where OwnerReferencesPermissionEnforcement is on: children whose owner waits for them
  verbs: [update]
- apiGroups: [kubeflow.org]
  resources: [pytorchjobs]
  # patch: only the clean-up of pods, once an attempt is over
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  # patch: the size of a round's services, where the user changes it
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# These go with what they belong to.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  # list: why the pods of an attempt cannot be made
  verbs: [create, list]
{{- end }}

{{/* The namespaces that the operator serves, as a YAML list; empty for the whole cluster. */}}
{{- define "rstar.operator.namespaces" -}}
{{- if eq .Values.operator.scope "namespaces" -}}
{{ toJson .Values.operator.namespaces }}
{{- else if eq .Values.operator.scope "namespace" -}}
{{ toJson (list .Release.Namespace) }}
{{- else -}}
[]
{{- end -}}
{{- end }}
