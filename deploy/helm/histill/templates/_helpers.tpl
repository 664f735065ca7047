{{/* Names and labels. A "part" is (dict "root" $ "component" "jobs" "values" .Values.jobs). */}}

{{- define "histill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* 30 characters: "-worker-<pool>" follows, in a name of which a StatefulSet may have 52. */}}
{{- define "histill.fullname" -}}
{{- $name := include "histill.name" . }}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $made .Values.fullnameOverride | trunc 30 | trimSuffix "-" }}
{{- end }}

{{- define "histill.part.fullname" -}}
{{ include "histill.fullname" .root }}-{{ .component }}
{{- end }}

{{- define "histill.selectorLabels" -}}
app.kubernetes.io/name: {{ include "histill.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
histill/pool: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Labels of the chart, and an operator's, which never take their place: Services, policies and
     upgrades count on them. (list YAML MAP…), the first that has a key winning. */}}
{{- define "histill.labels.with" -}}
{{- $all := first . | fromYaml }}
{{- range rest . }}{{ $all = merge $all (. | default dict) }}{{ end }}
{{- toYaml $all }}
{{- end }}

{{- define "histill.labels.own" -}}
{{ include "histill.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
app.kubernetes.io/part-of: histill
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* Of an object; .labels are further ones of that object. */}}
{{- define "histill.labels" -}}
{{- include "histill.labels.with" (list (include "histill.labels.own" .) .labels .root.Values.commonLabels) }}
{{- end }}

{{/* Name, namespace and labels of an object of a part. */}}
{{- define "histill.metadata" -}}
name: {{ .name | default (include "histill.part.fullname" .) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "histill.labels" . | nindent 2 }}
{{- end }}

{{/* Ports of a part's processes, by component. */}}
{{- define "histill.ports" -}}
jobs: {grpc: 50051, health: 50061, metrics: 9101}
registry: {grpc: 50052, health: 50062, metrics: 9102}
inference: {grpc: 50053, health: 50063, metrics: 9103}
web: {http: 8080, metrics: 9104}
worker: {health: 50065, metrics: 9105}
valkey: {redis: 6379}
minio: {s3: 9000}
{{- end }}

{{- define "histill.port" -}}
{{- index (include "histill.ports" . | fromYaml) .component .which }}
{{- end }}

{{/* Image of a part: (dict "root" $ "target" "jobs" "image" .Values.jobs.image "variant" ""). */}}
{{- define "histill.image" -}}
{{- $all := .root.Values.image }}
{{- $image := .image | default dict }}
{{- $repository := $image.repository | default (printf "%s/%s" $all.repository .target) }}
{{- if $all.registry }}{{ $all.registry }}/{{ end }}{{ $repository }}
{{- if $image.digest }}@{{ $image.digest }}
{{- else if $image.tag }}:{{ $image.tag }}
{{- else }}:{{ $all.tag | default .root.Chart.AppVersion }}{{ with .variant }}-{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/* The Secret of keys: the operator's, or the one that the setup Job fills. */}}
{{- define "histill.secretName" -}}
{{- .Values.auth.existingSecret | default (printf "%s-keys" (include "histill.fullname" .)) }}
{{- end }}

{{- define "histill.redis.secret" -}}
{{- ternary (include "histill.secretName" .) .Values.redis.existingSecret .Values.valkey.enabled }}
{{- end }}

{{- define "histill.s3.endpoint" -}}
{{- ternary (printf "%s-minio:9000" (include "histill.fullname" .)) .Values.s3.endpoint .Values.minio.enabled }}
{{- end }}

{{/* Where a service is, for clients within the cluster: (dict "root" $ "component" "jobs"). */}}
{{- define "histill.address" -}}
{{- $name := printf "%s-%s" (include "histill.fullname" .root) .component }}
{{- $host := printf "%s.svc.%s" .root.Release.Namespace .root.Values.clusterDomain }}
{{- $port := include "histill.port" (merge (dict "which" "grpc") .) }}
{{- if eq .component "inference" }}dns:///{{ $name }}-headless.{{ $host }}:{{ $port }}
{{- else }}{{ $name }}.{{ $host }}:{{ $port }}{{ end }}
{{- end }}

{{/* The pools that are enabled as a JSON list, the default one first. */}}
{{- define "histill.pools" -}}
{{- $names := list }}
{{- range $name, $pool := .Values.worker.pools }}
{{- if and (hasKey $pool "enabled" | ternary $pool.enabled true) (ne $name $.Values.worker.defaultPool) }}{{ $names = append $names $name }}{{ end }}
{{- end }}
{{- prepend $names .Values.worker.defaultPool | toJson }}
{{- end }}

{{/* Includes each of .names with .part, without empty lines between. */}}
{{- define "histill.each" -}}
{{- range .names }}
{{- with include . $.part | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- end }}
