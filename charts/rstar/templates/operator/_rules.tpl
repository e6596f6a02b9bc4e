{{/* The operator's rights in a namespace with rounds: no Secrets. */}}
{{- define "rstar.operator.rules" -}}
- apiGroups: [rstar.dev]
  resources: [evolutions]
  verbs: [get, list, watch]
- apiGroups: [rstar.dev]
  resources: [evolutionrounds]
  # create: the rounds of evolutions
  # patch: the rounds of evolutions, and the finalizer of a round that asks for the deletion of its artefacts
  # delete: never used; OwnerReferencesPermissionEnforcement asks for it where an evolution adopts a round
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rstar.dev]
  resources: [evolutions/status, evolutionrounds/status]
  verbs: [update]
- apiGroups: [rstar.dev]
  resources: [evolutions/finalizers, evolutionrounds/finalizers]
  # required by OwnerReferencesPermissionEnforcement for children with blockOwnerDeletion
  verbs: [update]
{{- if eq .Values.operator.trainingBackend "trainjob" }}
- apiGroups: [trainer.kubeflow.org]
  resources: [trainjobs]
  # patch: only suspend, before a job is deleted
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [trainer.kubeflow.org]
  resources: [trainingruntimes]
  verbs: [get, list, watch, create, delete]
{{- else }}
- apiGroups: [kubeflow.org]
  resources: [pytorchjobs]
  # patch: only cleanPodPolicy, once an attempt is over
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [apps]
  resources: [deployments]
  # patch: only the size of a round's services
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
{{- if eq .Values.rounds.autoscaling.kind "keda" }}
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
# These are deleted with their owners.
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
  # list: why the pods of an attempt cannot be created
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
