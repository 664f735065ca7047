{{- define "histill.tls.issued" -}}
{{- with .Values.tls.certManager -}}
duration: {{ .duration }}
renewBefore: {{ .renewBefore }}
privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
issuerRef:
  {{- toYaml .issuerRef | nindent 2 }}
{{- end }}
{{- end }}

{{/* Each service under the names that it has within the cluster, and inference's headless one. The
     names of single pods stand for clients that are told them. */}}
{{- define "histill.tls.names" -}}
{{- $full := include "histill.fullname" . }}
{{- $near := printf "%s.svc" .Release.Namespace }}
{{- $far := printf "%s.%s" $near .Values.clusterDomain }}
{{- range list "jobs" "registry" "inference" "inference-headless" }}
{{- $name := printf "%s-%s" $full . -}}
- {{ $name }}
- {{ $name }}.{{ $.Release.Namespace }}
- {{ $name }}.{{ $near }}
- {{ $name }}.{{ $far }}
{{ end -}}
- "*.{{ $full }}-inference-headless.{{ $far }}"
- localhost
{{- range .Values.tls.certManager.extraDnsNames }}
- {{ . | quote }}
{{- end }}
{{- end }}
