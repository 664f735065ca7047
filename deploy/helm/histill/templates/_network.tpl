{{/* Rules of network policies, by what is on the other end. A pod's own node always reaches it, so
     that probes need no rule. Ports are numbers: not every network knows a container's names. */}}

{{- define "histill.networkPolicy" -}}
{{- if .part.root.Values.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "histill.metadata" .part | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "histill.selectorLabels" .part | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- include "histill.each" (dict "names" .ingress "part" .part) | trim | default "[]" | nindent 4 }}
  egress:
    {{- include "histill.each" (dict "names" .egress "part" .part) | trim | default "[]" | nindent 4 }}
{{- end }}
{{- end }}

{{/* Pods of this release: (dict "root" $ "components" (list "web")). */}}
{{- define "histill.net.pods" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "histill.name" .root | quote }}
      app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: {{ .components | toJson }}}
{{- end }}

{{/* One port of a part: (list $ COMPONENT NAME). */}}
{{- define "histill.net.tcp" -}}
{protocol: TCP, port: {{ include "histill.port" (dict "root" (index . 0) "component" (index . 1) "which" (index . 2)) }}}
{{- end }}

{{- define "histill.in.grpc" -}}
- from:
    {{- include "histill.net.pods" (dict "root" .root "components" (list "web" "test")) | nindent 4 }}
    {{- with .root.Values.networkPolicy.clients }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports: [{{ include "histill.net.tcp" (list .root .component "grpc") }}]
{{- end }}

{{- define "histill.in.metrics" -}}
{{- with .root.Values.networkPolicy.metrics }}
- from:
    {{- toYaml . | nindent 4 }}
  ports: [{{ include "histill.net.tcp" (list $.root $.component "metrics") }}]
{{- end }}
{{- end }}

{{- define "histill.in.http" -}}
- from:
    {{- include "histill.net.pods" (dict "root" .root "components" (list "test")) | nindent 4 }}
    {{- with .root.Values.networkPolicy.webClients }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports: [{{ include "histill.net.tcp" (list .root "web" "http") }}]
{{- end }}

{{- define "histill.out.web" -}}
{{- if .root.Values.web.enabled }}
- to:
    {{- include "histill.net.pods" (dict "root" .root "components" (list "web")) | nindent 4 }}
  ports: [{{ include "histill.net.tcp" (list .root "web" "http") }}]
{{- end }}
{{- end }}

{{- define "histill.out.dns" -}}
- ports:
    {{- range .root.Values.networkPolicy.dnsPorts }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{/* To a server outside of the release: (dict "to" PEERS "ports" (list 443)). */}}
{{- define "histill.net.out" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "histill.out.redis" -}}
{{- if .root.Values.valkey.enabled }}
- to:
    {{- include "histill.net.pods" (dict "root" .root "components" (list "valkey")) | nindent 4 }}
  ports: [{{ include "histill.net.tcp" (list .root "valkey" "redis") }}]
{{- else }}
{{ include "histill.net.out" (dict "to" .root.Values.networkPolicy.redis "ports" .root.Values.networkPolicy.redisPorts) }}
{{- end }}
{{- end }}

{{- define "histill.out.s3" -}}
{{- if .root.Values.minio.enabled }}
- to:
    {{- include "histill.net.pods" (dict "root" .root "components" (list "minio")) | nindent 4 }}
  ports: [{{ include "histill.net.tcp" (list .root "minio" "s3") }}]
{{- else }}
{{- with .root.Values.networkPolicy }}
{{ include "histill.net.out" (dict "to" .s3 "ports" (.s3Ports | default (list (splitList ":" $.root.Values.s3.endpoint | last)))) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "histill.out.services" -}}
- to:
    {{- include "histill.net.pods" (dict "root" .root "components" (list "jobs" "registry" "inference")) | nindent 4 }}
  ports:
    {{- range list "jobs" "registry" "inference" }}
    - {{ include "histill.net.tcp" (list $.root . "grpc") }}
    {{- end }}
{{- end }}

{{/* The port of a URL: (list URL DEFAULT). */}}
{{- define "histill.net.port" -}}
{{- $host := (urlParse (index . 0)).host }}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default (index . 1) }}
{{- end }}

{{- define "histill.out.tracing" -}}
{{- with .root.Values.tracing.endpoint }}
{{- $ports := $.root.Values.networkPolicy.tracingPorts | default (list (include "histill.net.port" (list . "4317"))) }}
{{ include "histill.net.out" (dict "to" $.root.Values.networkPolicy.tracing "ports" $ports) }}
{{- end }}
{{- end }}

{{- define "histill.out.oidc" -}}
{{- if eq .root.Values.auth.mode "keys" }}
{{- with .root.Values.auth.oidc }}
{{- if .issuer }}
{{- $named := list (include "histill.net.port" (list .issuer "443")) (include "histill.net.port" (list (.jwksUrl | default .issuer) "443")) | uniq }}
{{ include "histill.net.out" (dict "to" $.root.Values.networkPolicy.oidc "ports" ($.root.Values.networkPolicy.oidcPorts | default $named)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "histill.out.apiServer" -}}
{{ include "histill.net.out" (dict "to" .root.Values.networkPolicy.apiServer "ports" .root.Values.networkPolicy.apiServerPorts) }}
{{- end }}
