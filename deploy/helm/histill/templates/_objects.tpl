{{/* Objects that every part has, but for its workload. */}}

{{- define "histill.serviceAccount" -}}
{{- if .values.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "histill.metadata" (merge (dict "name" .values.serviceAccount.name) .) | nindent 2 }}
  {{- with .values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
{{- end }}

{{- define "histill.podDisruptionBudget" -}}
{{- if .values.podDisruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "histill.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready serves nobody, and keeps no node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "histill.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* What clients call, without metrics: Prometheus asks each pod, and a load balancer would publish them. */}}
{{- define "histill.servicePorts" -}}
{{- $protocol := ternary "https" "kubernetes.io/h2c" .root.Values.tls.enabled -}}
- name: grpc
  port: {{ include "histill.port" (merge (dict "which" "grpc") .) }}
  targetPort: grpc
  appProtocol: {{ $protocol }}
{{- end }}

{{/* Where a Service takes calls from outside, and whose. */}}
{{- define "histill.service.access" -}}
type: {{ .values.service.type }}
{{- with .values.service.externalTrafficPolicy }}
externalTrafficPolicy: {{ . }}
{{- end }}
{{- with .values.service.loadBalancerSourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "histill.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "histill.metadata" . | nindent 2 }}
  {{- with .values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "histill.service.access" . | nindent 2 }}
  ports:
    {{- include "histill.servicePorts" . | nindent 4 }}
  selector:
    {{- include "histill.selectorLabels" . | nindent 4 }}
{{- end }}
