{{/* Labels of every object. */}}
{{- define "rstar.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/part-of: rstar
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Metadata of an object of one component. Takes root, component. */}}
{{- define "rstar.metadata" -}}
name: rstar-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "rstar.labels" .root | nindent 2 }}
  app.kubernetes.io/name: rstar-{{ .component }}
  app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels by which a component's pods are selected: name and instance exclude the operator's objects. Takes root, component. */}}
{{- define "rstar.selector" -}}
app.kubernetes.io/name: rstar-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: rstar
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Reference of an image. Takes root, image (a key of .Values.images). */}}
{{- define "rstar.image" -}}
{{- $images := .root.Values.images -}}
{{- $image := index $images .image -}}
{{- with $images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}:{{ $image.tag | default $images.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Name of the Secret with the object store's address and keys. */}}
{{- define "rstar.storage-secret" -}}
{{ .Values.storage.existingSecret | default "rstar-storage" }}
{{- end }}

{{/* Start of every pod's spec. Takes root, and node: the values runtimeClassName, nodeSelector, ... of the component. */}}
{{- define "rstar.pod" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.pods.runAsUser }}
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .node.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .node.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .node.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .node.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .node.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The labels and annotations of the pods of a Deployment. Takes root, component, values; selected by rstar.selector. */}}
{{- define "rstar.pod-metadata" -}}
labels:
  {{- include "rstar.selector" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Replicas run on different nodes if possible. Takes root, component. */}}
{{- define "rstar.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "rstar.selector" . | nindent 8 }}
{{- end }}

{{/* The restricted security context of every container. */}}
{{- define "rstar.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The variables, mount and volume of the certificate of mutual TLS, as rounds' pods have them (children/certificate.py). */}}
{{- define "rstar.tls-env" -}}
- {name: RSTAR_TLS_CERT, value: /etc/rstar-tls/tls.crt}
- {name: RSTAR_TLS_KEY, value: /etc/rstar-tls/tls.key}
- {name: RSTAR_TLS_CA, value: /etc/rstar-tls/ca.crt}
{{- end }}

{{- define "rstar.tls-mount" -}}
- {name: tls, mountPath: /etc/rstar-tls, readOnly: true}
{{- end }}

{{- define "rstar.tls-volume" -}}
# 0440: by default every user of the container could read the key.
- name: tls
  secret: {secretName: {{ .Values.tls.secretName }}, defaultMode: 288}
{{- end }}

{{/* The variables that ask for traces, as a YAML list; [] without a collector. */}}
{{- define "rstar.tracing-env" -}}
{{- with .Values.tracing -}}
{{- if .endpoint -}}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_TRACES_SAMPLER, value: {{ .sampler }}}
{{- with .samplerArg }}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ . | quote }}}
{{- end }}
{{- else -}}
[]
{{- end }}
{{- end }}
{{- end }}

{{/* The arguments of rstar-namespace's templates, as YAML. */}}
{{- define "rstar.namespace" -}}
namespace: {{ .Release.Namespace }}
labels: {{ include "rstar.labels" . | toJson }}
policies: {{ toJson .Values.networkPolicies }}
{{- end }}
