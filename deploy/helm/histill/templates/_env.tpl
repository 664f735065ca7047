{{/* Groups of variables. What a process reads stands in its settings.py. */}}

{{/* A variable from a Secret: (list NAME SECRET KEY). */}}
{{- define "histill.env.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 | quote }}, key: {{ index . 2 | quote }}}}
{{- end }}

{{/* All of a container: groups by name, then settings, then what the operator adds. A setting that a
     value of the chart makes already would stand twice, and which one counts is nobody's to guess. */}}
{{- define "histill.env" -}}
{{- $made := include "histill.each" . | trim }}
{{- $names := list }}
{{- range $made | fromYamlArray }}{{ $names = append $names .name }}{{ end }}
{{- $made }}
{{- range $key, $value := .part.values.settings }}
{{- $name := printf "HISTILL_%s" $key }}
{{- if has $name $names }}
{{- fail (printf "%s.settings.%s: a value of the chart makes %s already; set that one" $.part.component $key $name) }}
{{- end }}
{{- if regexMatch "_(HOST|PORT)$" $key }}
{{- fail (printf "%s.settings.%s: probes and Services know the chart's own addresses; leave it out" $.part.component $key) }}
{{- end }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .part.values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "histill.env.base" -}}
- name: HISTILL_LOG__LEVEL
  value: {{ .root.Values.log.level }}
{{- with .root.Values.tracing }}
{{- if .endpoint }}
- name: HISTILL_TRACING__ENDPOINT
  value: {{ .endpoint | quote }}
- name: HISTILL_TRACING__RATIO
  value: {{ .ratio | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "histill.env.redis" -}}
{{- $key := ternary "redis-url" .root.Values.redis.key .root.Values.valkey.enabled }}
{{- include "histill.env.fromSecret" (list "HISTILL_REDIS__URL" (include "histill.redis.secret" .root) $key) }}
{{- if .root.Values.redis.caSecret.name }}
- name: HISTILL_REDIS__CA_FILE
  value: /etc/histill/redis/ca.crt
{{- end }}
{{- end }}

{{- define "histill.env.s3" -}}
{{- $s3 := .root.Values.s3 }}
{{- $bundled := .root.Values.minio.enabled }}
{{- $secret := ternary (include "histill.secretName" .root) $s3.existingSecret $bundled }}
- name: HISTILL_S3__ENDPOINT
  value: {{ include "histill.s3.endpoint" .root | quote }}
- name: HISTILL_S3__SECURE
  value: {{ and $s3.secure (not $bundled) | quote }}
- name: HISTILL_S3__REGION
  value: {{ $s3.region | quote }}
- name: HISTILL_S3__BUCKET
  value: {{ $s3.bucket | quote }}
- name: HISTILL_S3__CREATE_BUCKET
  value: {{ $s3.createBucket | quote }}
{{- if $s3.caSecret.name }}
- name: HISTILL_S3__CA_FILE
  value: /etc/histill/s3/ca.crt
{{- end }}
{{ include "histill.env.fromSecret" (list "HISTILL_S3__ACCESS_KEY" $secret (ternary "s3-access-key" $s3.accessKey $bundled)) }}
{{ include "histill.env.fromSecret" (list "HISTILL_S3__SECRET_KEY" $secret (ternary "s3-secret-key" $s3.secretKey $bundled)) }}
{{- end }}

{{- define "histill.env.server" -}}
- name: HISTILL_SERVER__HOST
  value: {{ .root.Values.bindHost | quote }}
- name: HISTILL_SERVER__LINGER_S
  value: {{ .root.Values.lingerSeconds | quote }}
- name: HISTILL_SERVER__DRAIN_S
  value: {{ .values.drainSeconds | quote }}
{{- end }}

{{- define "histill.env.auth" -}}
{{- $auth := .root.Values.auth }}
{{- $secret := include "histill.secretName" .root }}
{{- if eq $auth.mode "none" }}
- name: HISTILL_AUTH__MODE
  value: none
{{- else }}
{{ include "histill.env.fromSecret" (list "HISTILL_AUTH__API_KEYS" ($auth.apiKeys.existingSecret | default $secret) (ternary $auth.apiKeys.key "api-keys" (ne $auth.apiKeys.existingSecret ""))) }}
{{ include "histill.env.fromSecret" (list "HISTILL_AUTH__SEAL" $secret "seal") }}
{{- include "histill.env.oidc" . }}
{{- end }}
{{- end }}

{{- define "histill.env.oidc" -}}
{{- with .root.Values.auth.oidc }}
{{- if .issuer }}
- name: HISTILL_AUTH__OIDC__ISSUER
  value: {{ .issuer | quote }}
- name: HISTILL_AUTH__OIDC__AUDIENCE
  value: {{ .audience | quote }}
{{- with .jwksUrl }}
- name: HISTILL_AUTH__OIDC__JWKS_URL
  value: {{ . | quote }}
{{- end }}
- name: HISTILL_AUTH__OIDC__ROLE_CLAIM
  value: {{ .roleClaim | quote }}
- name: HISTILL_AUTH__OIDC__ROLES
  value: {{ .roles | toJson | quote }}
{{- with .projectClaim }}
- name: HISTILL_AUTH__OIDC__PROJECT_CLAIM
  value: {{ . | quote }}
{{- end }}
{{- if .caSecret.name }}
- name: HISTILL_AUTH__OIDC__CA_FILE
  value: /etc/histill/oidc/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A folder within the volume, which the process makes: it wants one of its own user, and a volume's
     root belongs to root. */}}
{{- define "histill.env.audit" -}}
- name: HISTILL_AUDIT__FOLDER
  value: /var/lib/histill/audit/records
- name: HISTILL_AUDIT__MAX_BYTES
  value: {{ mul .root.Values.audit.waitingMiB 1048576 | quote }}
- name: HISTILL_AUDIT__WHEN_FULL
  value: {{ .root.Values.audit.whenFull }}
{{ include "histill.env.fromSecret" (list "HISTILL_AUDIT__KEY" (include "histill.secretName" .root) "audit-key") }}
{{- end }}

{{- define "histill.env.tls" -}}
{{- if .root.Values.tls.enabled }}
- name: HISTILL_TLS__CERTIFICATE
  value: /etc/histill/tls/tls.crt
- name: HISTILL_TLS__KEY
  value: /etc/histill/tls/tls.key
{{- if .root.Values.tls.mtls.enabled }}
- name: HISTILL_TLS__CLIENT_CA
  value: /etc/histill/client-ca/ca.crt
{{- end }}
{{- end }}
{{- end }}

{{/* TLS of a client, under the prefix that the part names: HISTILL_WEB or HISTILL_CLIENT. */}}
{{- define "histill.env.trust" -}}
{{- if .root.Values.tls.enabled }}
- name: {{ .prefix }}__CA_FILE
  value: /etc/histill/ca/ca.crt
{{- if .root.Values.tls.mtls.enabled }}
- name: {{ .prefix }}__CERTIFICATE
  value: /etc/histill/client/tls.crt
- name: {{ .prefix }}__KEY
  value: /etc/histill/client/tls.key
{{- end }}
{{- end }}
{{- end }}

{{/* Where the three services are; inference by all of its pods: see its headless Service. */}}
{{- define "histill.env.backends" -}}
{{- range list "jobs" "registry" "inference" }}
- name: {{ $.prefix }}__{{ upper . }}
  value: {{ include "histill.address" (dict "root" $.root "component" .) }}
{{- end }}
{{- end }}

{{- define "histill.env.sign" -}}
{{- if and .root.Values.signing.existingSecret .root.Values.signing.sign }}
- name: HISTILL_SIGNING__KEY
  value: /etc/histill/signing/signing.pem
{{- end }}
{{- end }}

{{- define "histill.env.verify" -}}
{{- if and .root.Values.signing.existingSecret .root.Values.signing.verify }}
- name: HISTILL_SIGNING__TRUSTED
  value: /etc/histill/trusted/trusted.pem
{{- end }}
{{- end }}

{{- define "histill.env.jobs" -}}
- name: HISTILL_JOBS__POOLS
  value: {{ include "histill.pools" .root | squote }}
{{- end }}

{{- define "histill.env.registry" -}}
- name: HISTILL_UPLOAD__SCRATCH
  value: /var/lib/histill/scratch
{{- end }}
