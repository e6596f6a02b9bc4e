{{/*
The common objects of the four gRPC services: a headless Service, so that clients see every pod, and a PodDisruptionBudget
for node drains. Takes root, component, port.
*/}}
{{- define "rstar.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "rstar.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "rstar.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ .port }}, targetPort: grpc, protocol: TCP, appProtocol: {{ ternary "https" "kubernetes.io/h2c" .root.Values.tls.enabled }}}
    - {name: metrics, port: 9090, targetPort: metrics, protocol: TCP}
{{- end }}

{{- define "rstar.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "rstar.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "rstar.selector" . | nindent 6 }}
{{- end }}

{{/*
Ports and probes of a gRPC server. The probes do not depend on other services. Kubernetes' gRPC probes have no TLS: with
TLS they use a port with the health alone. Takes root, port, startupSeconds: how long it may take until it serves; and
httpPort, a further port, where there is one.
*/}}
{{- define "rstar.serving" -}}
{{- $tls := .root.Values.tls.enabled -}}
{{- $probed := ternary 9091 .port $tls -}}
ports:
  - {name: grpc, containerPort: {{ .port }}, protocol: TCP}
  - {name: metrics, containerPort: 9090, protocol: TCP}
  {{- with .httpPort }}
  - {name: http, containerPort: {{ . }}, protocol: TCP}
  {{- end }}
  {{- if $tls }}
  - {name: health, containerPort: 9091, protocol: TCP}
  {{- end }}
startupProbe:
  grpc: {port: {{ $probed }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (add .startupSeconds 1) 2 }}
readinessProbe:
  grpc: {port: {{ $probed }}}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  grpc: {port: {{ $probed }}}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
# Clients that find servers by DNS resolve the name again every 5 s.
lifecycle: {preStop: {sleep: {seconds: 6}}}
{{- end }}

{{/* The pod's own address, on which servers listen. */}}
{{- define "rstar.pod-ip" -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}
