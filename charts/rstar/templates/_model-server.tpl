{{/*
The Deployment of a policy or a PPM server. Takes root, component, port, values.
*/}}
{{- define "rstar.model-server" -}}
{{- $v := .values -}}
{{- $local := ne $v.engine "openai" -}}
{{- $endpoint := $v.endpoint | default dict -}}
{{- $chat := and (not $local) (eq $v.prompt "chat") -}}
{{- $stored := false -}}
{{- range list (ternary $v.model "" $local) $v.adapter $v.promptFile (ternary $endpoint.tokenizer "" $chat) }}
{{- if hasPrefix "store:" (. | default "") }}{{ $stored = true }}{{ end -}}
{{- end -}}
{{- $image := ternary "vllm" .component (eq $v.engine "vllm") -}}
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
      {{- include "rstar.pod-metadata" . | nindent 6 }}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: {{ add $v.drainSeconds 15 }}
      {{- include "rstar.pod" (dict "root" .root "node" $v) | nindent 6 }}
      {{- include "rstar.spread" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          image: {{ include "rstar.image" (dict "root" .root "image" $image) | quote }}
          imagePullPolicy: {{ .root.Values.images.pullPolicy }}
          command: [python, -m, rstar_{{ .component }}]
          args:
            - --host=$(POD_IP)
            - --port={{ .port }}
            - --metrics-port=9090
            {{- if .root.Values.tls.enabled }}
            - --health-port=9091
            {{- end }}
            {{- if $local }}
            - {{ printf "--model=%s" $v.model | quote }}
            {{- else }}
            - {{ printf "--endpoint=%s" $endpoint.url | quote }}
            {{- with $endpoint.name }}
            - {{ printf "--model-name=%s" . | quote }}
            {{- end }}
            {{- if $chat }}
            - {{ printf "--tokenizer=%s" $endpoint.tokenizer | quote }}
            {{- end }}
            {{- if $endpoint.apiKeySecret.name }}
            - --api-key-env=RSTAR_ENDPOINT_KEY
            {{- end }}
            {{- end }}
            {{- if $stored }}
            - --store=$(RSTAR_STORE)
            {{- end }}
            - --cache=/cache
            - --prompt={{ $v.prompt }}
            {{- with $v.promptFile }}
            - {{ printf "--prompt-file=%s" . | quote }}
            {{- end }}
            {{- with $v.convention }}
            - --convention={{ . }}
            {{- end }}
            {{- if $local }}
            - --engine={{ $v.engine }}
            - --device={{ $v.device }}
            - --dtype={{ $v.dtype }}
            {{- end }}
            {{- if eq $v.engine "vllm" }}
            - --tensor-parallel={{ $v.tensorParallel }}
            - --memory-share={{ $v.memoryShare }}
            {{- with $v.adapter }}
            - {{ printf "--adapter=%s" . | quote }}
            {{- end }}
            {{- end }}
            {{- with $v.threads }}
            - --threads={{ . }}
            {{- end }}
            {{- with $v.maxRows }}
            - --max-rows={{ . }}
            {{- end }}
            - --drain-seconds={{ $v.drainSeconds }}
          env:
            {{- include "rstar.pod-ip" . | nindent 12 }}
            - {name: OMP_WAIT_POLICY, value: passive}
            - {name: HF_HOME, value: /cache/huggingface}
            {{- if $v.cacheClaim }}
            - {name: RSTAR_CACHE_SIZE, value: {{ $v.cacheSize | quote }}}
            {{- end }}
            {{- if and (not $local) $endpoint.apiKeySecret.name }}
            - name: RSTAR_ENDPOINT_KEY
              valueFrom: {secretKeyRef: {name: {{ $endpoint.apiKeySecret.name }}, key: {{ $endpoint.apiKeySecret.key }}}}
            {{- end }}
            {{- if .root.Values.tls.enabled }}
            {{- include "rstar.tls-env" .root | nindent 12 }}
            {{- end }}
            {{- if .root.Values.tracing.endpoint }}
            {{- include "rstar.tracing-env" .root | nindent 12 }}
            {{- end }}
            {{- with $v.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          envFrom:
            # A model of the hub needs no store, but may need HF_TOKEN.
            - secretRef: {name: {{ include "rstar.storage-secret" .root }}, optional: {{ not $stored }}}
          {{- include "rstar.serving" (dict "root" .root "port" .port "startupSeconds" $v.startupSeconds) | nindent 10 }}
          resources:
            {{- toYaml $v.resources | nindent 12 }}
          securityContext:
            {{- include "rstar.container-security" . | nindent 12 }}
          volumeMounts:
            - {name: cache, mountPath: /cache}
            - {name: tmp, mountPath: /tmp}
            {{- if .root.Values.tls.enabled }}
            {{- include "rstar.tls-mount" .root | nindent 12 }}
            {{- end }}
            {{- with $v.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- if gt (int $v.tensorParallel) 1 }}
            - {name: shm, mountPath: /dev/shm}
            {{- end }}
      volumes:
        - name: cache
          {{- if $v.cacheClaim }}
          persistentVolumeClaim: {claimName: {{ $v.cacheClaim }}}
          {{- else }}
          emptyDir: {sizeLimit: {{ $v.cacheSize }}}
          {{- end }}
        - name: tmp
          emptyDir: {sizeLimit: 1Gi}
        {{- if .root.Values.tls.enabled }}
        {{- include "rstar.tls-volume" .root | nindent 8 }}
        {{- end }}
        {{- with $v.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- if gt (int $v.tensorParallel) 1 }}
        # Its processes exchange data there; the default is 64 MiB, whatever the model.
        - name: shm
          emptyDir: {medium: Memory}
        {{- end }}
{{- end }}
