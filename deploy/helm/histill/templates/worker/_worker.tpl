{{- define "histill.env.worker" -}}
- name: HISTILL_WORKER__POOLS
  value: {{ list .pool | toJson | squote }}
- name: HISTILL_WORKER__HEALTH_HOST
  value: {{ .root.Values.bindHost | quote }}
- name: HISTILL_WORKER__METRICS_HOST
  value: {{ .root.Values.bindHost | quote }}
- name: HISTILL_WORKER__CONCURRENCY
  value: {{ .values.concurrency | quote }}
- name: HISTILL_WORKER__PROCESSES
  value: {{ .values.processes | quote }}
- name: HISTILL_WORKER__THREADS
  value: {{ .values.threads | quote }}
- name: HISTILL_WORKER__DRAIN_S
  value: {{ .values.drainSeconds | quote }}
- name: HISTILL_WORKER__SCRATCH
  value: /var/lib/histill/scratch
- name: HISTILL_WORKER__TEACHER_CACHE
  value: {{ ternary "/var/lib/histill/cache" "" .values.cache.enabled | quote }}
- name: HISTILL_WORKER__TEACHER_CACHE_BYTES
  value: {{ mul (int .values.cache.sizeGiB) 1073741824 | quote }}
{{- end }}

{{/* Values of a pool: (list $ NAME). */}}
{{- define "histill.pool.values" -}}
{{- $worker := (index . 0).Values.worker }}
{{- mergeOverwrite (omit $worker "pools" "defaultPool" | deepCopy) (index $worker.pools (index . 1) | default dict | deepCopy) | toJson }}
{{- end }}

{{- define "histill.pool.fullname" -}}
{{ include "histill.fullname" (index . 0) }}-worker-{{ index . 1 }}
{{- end }}
