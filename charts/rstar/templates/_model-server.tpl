{{/*
The Deployment of a policy or a PPM server. Takes root, component, port, values.
*/}}
{{- define "rstar.model-server" -}}
{{- $v := .values -}}
{{- $stored := hasPrefix "store:" $v.model -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "rstar.metadata" . | nindent 2 }}
spec:
  replicas: {{ $v.replicas }}
  selector:
    matchLabels:
      {{- include "rstar.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "rstar.selector" . | nindent 8 }}
      {{- with $v.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: {{ add $v.drainSeconds 15 }}
      {{- include "rstar.pod" (dict "root" .root "node" $v) | nindent 6 }}
      {{- include "rstar.spread" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          image: {{ include "rstar.image" (dict "root" .root "image" .component) | quote }}
          imagePullPolicy: {{ .root.Values.images.pullPolicy }}
          command: [python, -m, rstar_{{ .component }}]
          args:
            - --host=$(POD_IP)
            - --port={{ .port }}
            - --metrics-port=9090
            - {{ printf "--model=%s" $v.model | quote }}
            {{- if $stored }}
            - --store=$(RSTAR_STORE)
            {{- end }}
            - --cache=/cache
            - --prompt={{ $v.prompt }}
            - --device={{ $v.device }}
            - --dtype={{ $v.dtype }}
            {{- with $v.threads }}
            - --threads={{ . }}
            {{- end }}
            - --max-rows={{ $v.maxRows }}
            - --drain-seconds={{ $v.drainSeconds }}
          env:
            {{- include "rstar.pod-ip" . | nindent 12 }}
            - {name: OMP_WAIT_POLICY, value: passive}
            - {name: HF_HOME, value: /cache/huggingface}
            {{- if $v.cacheClaim }}
            - {name: RSTAR_CACHE_SIZE, value: {{ $v.cacheSize | quote }}}
            {{- end }}
          envFrom:
            # A model of the hub needs no store, but may need HF_TOKEN.
            - secretRef: {name: {{ include "rstar.storage-secret" .root }}, optional: {{ not $stored }}}
          {{- include "rstar.serving" (dict "port" .port "startupSeconds" $v.startupSeconds) | nindent 10 }}
          resources:
            {{- toYaml $v.resources | nindent 12 }}
          securityContext:
            {{- include "rstar.container-security" . | nindent 12 }}
          volumeMounts:
            - {name: cache, mountPath: /cache}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: cache
          {{- if $v.cacheClaim }}
          persistentVolumeClaim: {claimName: {{ $v.cacheClaim }}}
          {{- else }}
          emptyDir: {sizeLimit: {{ $v.cacheSize }}}
          {{- end }}
        - name: tmp
          emptyDir: {sizeLimit: 1Gi}
{{- end }}
