{{/* Whether the Job makes keys; else the operator has made them. */}}
{{- define "histill.setup.keys" -}}
{{- if not .Values.auth.existingSecret }}yes{{ end }}
{{- end }}

{{- define "histill.setup.needed" -}}
{{- if or (include "histill.setup.keys" .) .Values.s3.createBucket }}yes{{ end }}
{{- end }}

{{- define "histill.setup.container" -}}
image: {{ include "histill.image" (dict "root" .root "target" "cli" "image" .values.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end }}

{{/* The account's token reaches this one container, and no other of the whole release. */}}
{{- define "histill.setup.secrets" -}}
- name: secrets
  {{- include "histill.setup.container" . | nindent 2 }}
  args:
    - setup
    - secrets
    - --secret={{ include "histill.secretName" .root }}
    - --namespace={{ .root.Release.Namespace }}
    {{- if .root.Values.valkey.enabled }}
    - --bundled-redis={{ include "histill.fullname" .root }}-valkey:6379
    {{- end }}
    {{- if .root.Values.minio.enabled }}
    - --bundled-s3
    {{- end }}
    {{- if include "histill.web.guests" .root }}
    - --guests
    {{- end }}
    - --wait-s={{ .values.timeoutSeconds }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{- define "histill.setup.token" -}}
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{- define "histill.setup.bucket" -}}
- name: bucket
  {{- include "histill.setup.container" . | nindent 2 }}
  args: [setup, bucket, --wait-s={{ .values.timeoutSeconds }}]
  env:
    {{- include "histill.env.s3" . | trim | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- include "histill.mount.s3" . | trim | nindent 4 }}
{{- end }}

{{- define "histill.setup.pod" -}}
{{- $keys := include "histill.setup.keys" .root -}}
restartPolicy: OnFailure
{{ include "histill.pod.identity" (merge (dict "account" (ternary (include "histill.part.fullname" .) "" (ne $keys ""))) .) }}
{{- if and $keys .root.Values.s3.createBucket }}
initContainers:
  {{- include "histill.setup.secrets" . | nindent 2 }}
{{- end }}
containers:
  {{- if .root.Values.s3.createBucket }}
  {{- include "histill.setup.bucket" . | nindent 2 }}
  {{- else }}
  {{- include "histill.setup.secrets" . | nindent 2 }}
  {{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- if .root.Values.s3.createBucket }}
  {{- include "histill.volume.s3" . | trim | nindent 2 }}
  {{- end }}
  {{- if $keys }}
  {{- include "histill.setup.token" . | nindent 2 }}
  {{- end }}
{{- end }}
