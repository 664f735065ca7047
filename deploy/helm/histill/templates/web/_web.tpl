{{/* Whether the page serves those who have not signed in, with a key of role viewer. */}}
{{- define "histill.web.guests" -}}
{{- if and .Values.web.enabled .Values.web.allowAnonymous (ne .Values.auth.mode "none") }}yes{{ end }}
{{- end }}

{{- define "histill.env.web" -}}
{{- $web := .root.Values.web }}
{{- $name := include "histill.part.fullname" . }}
{{- $own := list "localhost" "127.0.0.1" $name (printf "%s.%s" $name .root.Release.Namespace) (printf "%s.%s.svc" $name .root.Release.Namespace) }}
- name: HISTILL_WEB__HOST
  value: {{ .root.Values.bindHost | quote }}
- name: HISTILL_WEB__ALLOWED_HOSTS
  value: {{ concat $own (ternary $web.ingress.hosts list $web.ingress.enabled) $web.allowedHosts | uniq | toJson | squote }}
{{- with $web.trustedProxies }}
- name: HISTILL_WEB__TRUSTED_PROXIES
  value: {{ toJson . | squote }}
{{- end }}
{{- if include "histill.web.guests" .root }}
{{ include "histill.env.fromSecret" (list "HISTILL_WEB__GUEST_KEY" (include "histill.secretName" .root) "web-key") }}
{{- end }}
{{- end }}

{{/* The kubelet asks by the pod's address, which is no name that the page answers to. */}}
{{- define "histill.web.probe" -}}
httpGet:
  path: /healthz
  port: http
  httpHeaders: [{name: Host, value: localhost}]
timeoutSeconds: 5
{{- end }}

{{- define "histill.web.probes" -}}
startupProbe:
  {{- include "histill.web.probe" . | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  {{- include "histill.web.probe" . | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  {{- include "histill.web.probe" . | nindent 2 }}
  periodSeconds: 3
  failureThreshold: 2
{{- end }}
