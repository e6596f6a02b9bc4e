{{/* The operator's configuration file. */}}
{{- define "rstar.operator.config" -}}
images:
  {{- range $image := list "policy" "ppm" "search" "jobs" "vllm" }}
  {{ $image }}: {{ include "rstar.image" (dict "root" $ "image" $image) | quote }}
  {{- end }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
imagePullSecrets: {{ toJson .Values.images.pullSecrets }}
executor: {{ .Values.operator.executor | quote }}
tlsSecret: {{ ternary .Values.tls.secretName "" .Values.tls.enabled | quote }}
stageServiceAccount: rstar-stage
autoscaling:
  kind: {{ .Values.rounds.autoscaling.kind }}
  serverAddress: {{ .Values.rounds.autoscaling.keda.serverAddress | quote }}
trainingBackend: {{ .Values.operator.trainingBackend }}
workers: {{ .Values.operator.workers }}
runAsUser: {{ .Values.pods.runAsUser | default "null" }}
podLabels: {{ toJson .Values.rounds.podLabels }}
extraEnv: {{ concat (include "rstar.tracing-env" . | fromYamlArray) .Values.rounds.extraEnv | default list | toJson }}
extraVolumes: {{ toJson .Values.rounds.extraVolumes }}
extraVolumeMounts: {{ toJson .Values.rounds.extraVolumeMounts }}
{{- end }}
