{{- define "histill.env.valkey" -}}
{{ include "histill.env.fromSecret" (list "REDISCLI_AUTH" (include "histill.secretName" .root) "redis-password") }}
{{- end }}

{{- define "histill.env.minio" -}}
{{- $secret := include "histill.secretName" .root -}}
{{ include "histill.env.fromSecret" (list "MINIO_ROOT_USER" $secret "s3-access-key") }}
{{ include "histill.env.fromSecret" (list "MINIO_ROOT_PASSWORD" $secret "s3-secret-key") }}
- name: MINIO_BROWSER
  value: "off"
- name: HOME
  value: /tmp
{{- end }}

{{/* What both bundled servers have in common: (dict … "container" YAML of it). */}}
{{- define "histill.bundled" -}}
{{- $full := include "histill.part.fullname" . -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "histill.metadata" . | nindent 2 }}
spec:
  replicas: 1
  serviceName: {{ $full }}
  selector:
    matchLabels:
      {{- include "histill.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "histill.labels.with" (list (include "histill.selectorLabels" .) .root.Values.commonLabels) | nindent 8 }}
    spec:
      {{- include "histill.pod.identity" . | nindent 6 }}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ .values.image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          securityContext:
            {{- toYaml .root.Values.securityContext | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          ports:
            {{- include "histill.containerPorts" . | trim | nindent 12 }}
          {{- .container | nindent 10 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: data, mountPath: /data}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- if not .values.persistence.enabled }}
        - name: data
          emptyDir: {sizeLimit: {{ .values.persistence.size }}}
        {{- end }}
  {{- with .values.persistence }}
  {{- if .enabled }}
  volumeClaimTemplates:
    {{- include "histill.claim" (dict "part" $ "name" "data" "size" .size "class" .storageClassName) | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "histill.bundled.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "histill.metadata" . | nindent 2 }}
spec:
  type: ClusterIP
  ports:
    {{- range $name, $port := index (include "histill.ports" . | fromYaml) .component }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
  selector:
    {{- include "histill.selectorLabels" . | nindent 4 }}
{{- end }}

{{/* Who may call a bundled server: pods of the release, of .callers. It calls nobody. */}}
{{- define "histill.bundled.networkPolicy" -}}
{{- if .root.Values.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "histill.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "histill.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        {{- include "histill.net.pods" (dict "root" .root "components" .callers) | nindent 8 }}
      ports: [{protocol: TCP, port: {{ values (index (include "histill.ports" . | fromYaml) .component) | first }}}]
  egress: []
{{- end }}
{{- end }}
