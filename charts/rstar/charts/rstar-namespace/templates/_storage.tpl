{{/*
The object store as services and stages see it: environment variables. Takes namespace, labels, name, store, endpoint,
accessKey, secretKey, region, sessionToken, hfToken; the last three may be empty.
*/}}
{{- define "rstar-namespace.storage" -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "rstar-namespace.metadata" . | nindent 2 }}
type: Opaque
stringData:
  RSTAR_STORE: {{ .store | quote }}
  RSTAR_S3_ENDPOINT: {{ .endpoint | quote }}
  AWS_ACCESS_KEY_ID: {{ .accessKey | quote }}
  AWS_SECRET_ACCESS_KEY: {{ .secretKey | quote }}
  {{- with .region }}
  AWS_REGION: {{ . | quote }}
  {{- end }}
  {{- with .sessionToken }}
  AWS_SESSION_TOKEN: {{ . | quote }}
  {{- end }}
  {{- with .hfToken }}
  HF_TOKEN: {{ . | quote }}
  {{- end }}
{{- end }}
