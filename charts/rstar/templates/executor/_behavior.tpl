{{/* Scale up at once: searches wait for their programs. Scale down slowly: between two shards executors are idle. */}}
{{- define "rstar.executor.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 4, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: 300
  selectPolicy: Max
  policies:
    - {type: Percent, value: 50, periodSeconds: 60}
{{- end }}
