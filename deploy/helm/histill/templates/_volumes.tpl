{{/* Each volume twice: how it is mounted, and what it is. Secrets are mounted as folders, never by
     subPath, so that renewed certificates arrive. */}}

{{- define "histill.mount.tmp" -}}
- {name: tmp, mountPath: /tmp}
{{- end }}
{{- define "histill.volume.tmp" -}}
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "histill.mount.audit" -}}
- {name: audit, mountPath: /var/lib/histill/audit}
{{- end }}
{{- define "histill.volume.audit" -}}
- name: audit
{{- with index .root.Values.audit.existingClaims .component }}
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- else }}
  emptyDir: {sizeLimit: {{ mul .root.Values.audit.waitingMiB 2 }}Mi}
{{- end }}
{{- end }}

{{- define "histill.mount.scratch" -}}
- {name: scratch, mountPath: /var/lib/histill/scratch}
{{- end }}
{{- define "histill.volume.scratch" -}}
- name: scratch
  emptyDir: {sizeLimit: {{ .values.scratchSize }}}
{{- end }}

{{- define "histill.mount.tls" -}}
{{- if .root.Values.tls.enabled }}
- {name: tls, mountPath: /etc/histill/tls, readOnly: true}
{{- if .root.Values.tls.mtls.enabled }}
- {name: client-ca, mountPath: /etc/histill/client-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- define "histill.volume.tls" -}}
{{- if .root.Values.tls.enabled }}
{{- $tls := .root.Values.tls }}
{{- $secret := include "histill.tls.secret" .root }}
- name: tls
  secret:
    secretName: {{ $secret | quote }}
    defaultMode: 0440
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- if $tls.mtls.enabled }}
{{ include "histill.volume.pem" (list "client-ca" ($tls.mtls.clientCaSecret.name | default $secret) (ternary $tls.mtls.clientCaSecret.key "ca.crt" (ne $tls.mtls.clientCaSecret.name "")) "ca.crt") }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a client of ours trusts, and with mTLS who it is. */}}
{{- define "histill.mount.trust" -}}
{{- if .root.Values.tls.enabled }}
- {name: ca, mountPath: /etc/histill/ca, readOnly: true}
{{- if .root.Values.tls.mtls.enabled }}
- {name: client, mountPath: /etc/histill/client, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- define "histill.volume.trust" -}}
{{- if .root.Values.tls.enabled }}
{{- $tls := .root.Values.tls }}
{{ include "histill.volume.pem" (list "ca" ($tls.caSecret.name | default (include "histill.tls.secret" .root)) (ternary $tls.caSecret.key "ca.crt" (ne $tls.caSecret.name "")) "ca.crt") }}
{{- if $tls.mtls.enabled }}
- name: client
  secret:
    secretName: {{ $tls.mtls.clientSecret | default (printf "%s-client-tls" (include "histill.fullname" .root)) | quote }}
    defaultMode: 0440
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end }}
{{- end }}
{{- end }}

{{- define "histill.mount.oidc" -}}
{{- with .root.Values.auth.oidc }}
{{- if and .issuer .caSecret.name }}
- {name: oidc, mountPath: /etc/histill/oidc, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- define "histill.volume.oidc" -}}
{{- with .root.Values.auth.oidc }}
{{- if and .issuer .caSecret.name }}
{{ include "histill.volume.pem" (list "oidc" .caSecret.name .caSecret.key "ca.crt") }}
{{- end }}
{{- end }}
{{- end }}

{{/* Authorities of the operator's own stores. */}}
{{- define "histill.mount.s3" -}}
{{- if .root.Values.s3.caSecret.name }}
- {name: s3, mountPath: /etc/histill/s3, readOnly: true}
{{- end }}
{{- end }}
{{- define "histill.volume.s3" -}}
{{- with .root.Values.s3.caSecret }}
{{- if .name }}
{{ include "histill.volume.pem" (list "s3" .name .key "ca.crt") }}
{{- end }}
{{- end }}
{{- end }}

{{- define "histill.mount.redis" -}}
{{- if .root.Values.redis.caSecret.name }}
- {name: redis, mountPath: /etc/histill/redis, readOnly: true}
{{- end }}
{{- end }}
{{- define "histill.volume.redis" -}}
{{- with .root.Values.redis.caSecret }}
{{- if .name }}
{{ include "histill.volume.pem" (list "redis" .name .key "ca.crt") }}
{{- end }}
{{- end }}
{{- end }}

{{/* The private key goes to who signs, and to nobody else. */}}
{{- define "histill.mount.sign" -}}
{{- if and .root.Values.signing.existingSecret .root.Values.signing.sign }}
- {name: signing, mountPath: /etc/histill/signing, readOnly: true}
{{- end }}
{{- end }}
{{- define "histill.volume.sign" -}}
{{- if and .root.Values.signing.existingSecret .root.Values.signing.sign }}
{{ include "histill.volume.pem" (list "signing" .root.Values.signing.existingSecret "signing.pem" "signing.pem") }}
{{- end }}
{{- end }}

{{- define "histill.mount.verify" -}}
{{- if and .root.Values.signing.existingSecret .root.Values.signing.verify }}
- {name: trusted, mountPath: /etc/histill/trusted, readOnly: true}
{{- end }}
{{- end }}
{{- define "histill.volume.verify" -}}
{{- if and .root.Values.signing.existingSecret .root.Values.signing.verify }}
{{ include "histill.volume.pem" (list "trusted" .root.Values.signing.existingSecret "trusted.pem" "trusted.pem") }}
{{- end }}
{{- end }}

{{/* Batches go from a trainer's loaders to it over /dev/shm, for which a container has 64 MiB else. */}}
{{- define "histill.mount.worker" -}}
- {name: shm, mountPath: /dev/shm}
{{- if .values.cache.enabled }}
- {name: cache, mountPath: /var/lib/histill/cache}
{{- end }}
{{- end }}
{{- define "histill.volume.worker" -}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .values.shmSize }}}
{{- if and .values.cache.enabled (not .values.cache.persistent) }}
- name: cache
  emptyDir: {sizeLimit: {{ include "histill.cache.size" . }}}
{{- end }}
{{- end }}

{{/* The cache is trimmed after it has grown: leave it a fifth more, and one GiB. */}}
{{- define "histill.cache.size" -}}
{{- $size := int .values.cache.sizeGiB }}
{{- add $size (div $size 5) 1 }}Gi
{{- end }}

{{/* One file of a Secret: (list VOLUME SECRET KEY PATH). */}}
{{- define "histill.volume.pem" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 | quote }}
    defaultMode: 0440
    items: [{key: {{ index . 2 | quote }}, path: {{ index . 3 }}}]
{{- end }}

{{- define "histill.tls.secret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "histill.fullname" .)) }}
{{- end }}

{{/* All mounts, and all volumes, of a part: .names, and what the operator adds. */}}
{{- define "histill.mounts" -}}
{{- $names := list }}
{{- range .names }}{{ $names = append $names (printf "histill.mount.%s" .) }}{{ end }}
{{- include "histill.each" (dict "names" $names "part" .part) | trim }}
{{- with .part.values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "histill.volumes" -}}
{{- $names := list }}
{{- range .names }}{{ $names = append $names (printf "histill.volume.%s" .) }}{{ end }}
{{- include "histill.each" (dict "names" $names "part" .part) | trim }}
{{- with .part.values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A claim of a StatefulSet. None of its fields can change, so no version stands among its labels. */}}
{{- define "histill.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: {{ .name }}
    labels:
      {{- include "histill.selectorLabels" .part | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .class }}
    storageClassName: {{ . | quote }}
    {{- end }}
    resources: {requests: {storage: {{ .size }}}}
{{- end }}
