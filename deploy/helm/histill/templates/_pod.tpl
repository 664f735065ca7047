{{/* What pods have in common. */}}

{{/* Without the chart's own version: a chart that changes nothing here restarts nothing. */}}
{{- define "histill.pod.metadata" -}}
{{- $annotations := deepCopy (.values.podAnnotations | default dict) }}
{{- if .root.Values.metrics.annotations }}
{{- $scrape := dict "prometheus.io/scrape" "true" "prometheus.io/path" "/metrics" "prometheus.io/port" (include "histill.port" (merge (dict "which" "metrics") .)) }}
{{- $annotations = mergeOverwrite $scrape $annotations }}
{{- end -}}
{{- $own := printf "%s\napp.kubernetes.io/version: %q" (include "histill.selectorLabels" .) .root.Chart.AppVersion -}}
labels:
  {{- include "histill.labels.with" (list $own .values.podLabels .root.Values.commonLabels) | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* enableServiceLinks would put HISTILL_JOBS_PORT and the like into the environment of a release
     that is called histill, and an unknown HISTILL_* stops a process. */}}
{{- define "histill.pod.identity" -}}
{{- with .account -}}
serviceAccountName: {{ . | quote }}
{{ end -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "histill.pod" -}}
{{- $account := .values.serviceAccount }}
{{- $made := include "histill.part.fullname" (dict "root" .root "component" .component) }}
{{- include "histill.pod.identity" (merge (dict "account" ($account.name | default (ternary $made "default" $account.create))) .) }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "histill.selectorLabels" . | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "histill.selectorLabels" . | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "histill.container" -}}
image: {{ include "histill.image" (dict "root" .root "target" .component "image" .values.image "variant" .values.imageVariant) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end }}

{{- define "histill.containerPorts" -}}
{{- range $name, $port := index (include "histill.ports" . | fromYaml) .component }}
- {name: {{ $name }}, containerPort: {{ $port }}}
{{- end }}
{{- end }}

{{/* gRPC's own health on a port without TLS and keys. A start may take .startup seconds; a process
     that is alive and whose stores are away is not ready, and is not restarted. */}}
{{- define "histill.probes.grpc" -}}
{{- $port := include "histill.port" (merge (dict "which" "health") .) -}}
startupProbe:
  grpc: {port: {{ $port }}, service: liveness}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int .startup) 4) 5 }}
livenessProbe:
  grpc: {port: {{ $port }}, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  grpc: {port: {{ $port }}, service: ""}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{/* From SIGTERM to SIGKILL: lingering, then draining, then the last words (audit records to S3). */}}
{{- define "histill.grace" -}}
{{- add .root.Values.lingerSeconds .values.drainSeconds 10 (include "histill.grace.traces" .) }}
{{- end }}

{{/* What the last traces may take, with a collector that is away (FLUSH_S in rpc/trace_export.py). */}}
{{- define "histill.grace.traces" -}}
{{- ternary 3 0 (ne .root.Values.tracing.endpoint "") }}
{{- end }}

{{/* A claim of audit records may be one that a single node mounts, and then a second pod waits for ever
     for it: where there is one replica the old pod goes first. */}}
{{- define "histill.rollout" -}}
{{- $claim := get .root.Values.audit.existingClaims .component -}}
strategy:
  {{- if and $claim (eq (toString .values.replicas) "1") }}
  type: Recreate
  {{- else }}
  type: RollingUpdate
  rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  {{- end }}
{{- end }}
