{{/*
The account of stage pods, which report their progress to a ConfigMap that the operator creates. Takes namespace, labels.
*/}}
{{- define "rstar-namespace.stage" -}}
{{- $metadata := include "rstar-namespace.metadata" (merge (dict "name" "rstar-stage") .) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- $metadata | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- $metadata | nindent 2 }}
rules:
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [get, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- $metadata | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: rstar-stage
subjects:
  - kind: ServiceAccount
    name: rstar-stage
    namespace: {{ .namespace }}
{{- end }}
