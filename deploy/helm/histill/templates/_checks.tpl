{{/* Values that make no sense together, each with what to do about it. */}}
{{- define "histill.checks" -}}
{{- $v := .Values }}

{{- if and (eq $v.auth.mode "none") (not $v.auth.allowUnauthenticated) }}
{{- fail "auth.mode is none, which lets in everybody; if that is meant, set auth.allowUnauthenticated to true, too" }}
{{- end }}
{{- if and $v.auth.allowUnauthenticated (ne $v.auth.mode "none") }}
{{- fail "auth.allowUnauthenticated goes with auth.mode none only; remove it, or set the mode" }}
{{- end }}
{{- with $v.auth.oidc }}
{{- if and .issuer (not (and .audience .roles)) }}
{{- fail "auth.oidc.issuer needs auth.oidc.audience and auth.oidc.roles: without them no token could be let in" }}
{{- end }}
{{- if and .issuer (ne $v.auth.mode "keys") }}
{{- fail "auth.oidc goes with auth.mode keys; with none nobody looks at tokens" }}
{{- end }}
{{- end }}

{{- if and (not $v.valkey.enabled) (not $v.redis.existingSecret) }}
{{- fail "valkey.enabled is false: set redis.existingSecret to a Secret with the URL of your own Redis" }}
{{- end }}
{{- if and $v.valkey.enabled $v.redis.existingSecret }}
{{- fail "redis.existingSecret names your own Redis: set valkey.enabled to false" }}
{{- end }}
{{- if and (not $v.minio.enabled) (not (and $v.s3.endpoint $v.s3.existingSecret)) }}
{{- fail "minio.enabled is false: set s3.endpoint and s3.existingSecret for your own S3 server" }}
{{- end }}
{{- if and $v.minio.enabled (or $v.s3.endpoint $v.s3.existingSecret) }}
{{- fail "s3.endpoint and s3.existingSecret are of your own S3 server: set minio.enabled to false" }}
{{- end }}

{{- with $v.tls }}
{{- if .enabled }}
{{- if and (not .existingSecret) (not .certManager.enabled) }}
{{- fail "tls.enabled needs a certificate: set tls.existingSecret, or tls.certManager.enabled" }}
{{- end }}
{{- if and .existingSecret .certManager.enabled }}
{{- fail "tls.existingSecret and tls.certManager.enabled are two sources of one certificate; keep one" }}
{{- end }}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) }}
{{- fail "tls.certManager.enabled needs tls.certManager.issuerRef.name" }}
{{- end }}
{{- if and .mtls.enabled (not .mtls.clientSecret) (not .certManager.enabled) }}
{{- fail "tls.mtls.enabled needs tls.mtls.clientSecret: the web page and helm test are clients, too" }}
{{- end }}
{{- else if or .existingSecret .certManager.enabled .mtls.enabled }}
{{- fail "tls.existingSecret, tls.certManager and tls.mtls do nothing while tls.enabled is false" }}
{{- end }}
{{- end }}

{{- if and $v.web.ingress.enabled (not $v.web.ingress.hosts) }}
{{- fail "web.ingress.enabled needs web.ingress.hosts: the page answers to names that it knows" }}
{{- end }}
{{- if and $v.web.ingress.enabled (not $v.web.ingress.tls) (not $v.web.ingress.tlsElsewhere) }}
{{- fail "web.ingress.enabled needs web.ingress.tls: keys and images would cross the network in clear text, and browsers keep a sign-in over HTTPS only. Where a load balancer or the controller's own certificate ends TLS, set web.ingress.tlsElsewhere to true" }}
{{- end }}
{{- if and $v.web.ingress.enabled $v.networkPolicy.enabled (not $v.networkPolicy.webClients) }}
{{- fail "web.ingress.enabled needs networkPolicy.webClients: no pod may reach the page, and the ingress controller is one; name its namespace" }}
{{- end }}
{{- range $name := list "jobs" "registry" "inference" "web" }}
{{- with (get $v $name).service }}
{{- if and (eq .type "ClusterIP") (or .externalTrafficPolicy .loadBalancerSourceRanges) }}
{{- fail (printf "%s.service: externalTrafficPolicy and loadBalancerSourceRanges are of a type that is reached from outside, and this one is ClusterIP" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.inference.grpcRoute.enabled $v.tls.mtls.enabled }}
{{- fail "inference.grpcRoute ends TLS at the gateway, which has no certificate of a client's: without tls.mtls it can call inference, with it clients come through inference.service.type LoadBalancer or a TLSRoute of your own" }}
{{- end }}
{{- if and $v.inference.grpcRoute.enabled (not $v.inference.grpcRoute.parentRefs) }}
{{- fail "inference.grpcRoute.enabled needs inference.grpcRoute.parentRefs: a Gateway" }}
{{- end }}
{{- with $v.inference.autoscaling }}
{{- if and .enabled (not (kindIs "invalid" $v.inference.replicas)) }}
{{- fail "inference.autoscaling.enabled decides how many pods there are: remove inference.replicas" }}
{{- end }}
{{- if and .enabled (not (or .occupancy .cpuUtilization)) }}
{{- fail "inference.autoscaling.enabled needs inference.autoscaling.occupancy or cpuUtilization" }}
{{- end }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail "inference.autoscaling.minReplicas is above maxReplicas" }}
{{- end }}
{{- end }}
{{- include "histill.checks.pools" . }}
{{- end }}

{{- define "histill.checks.pools" -}}
{{- $default := .Values.worker.defaultPool }}
{{- $pool := get .Values.worker.pools $default }}
{{- if or (not $pool) (not (hasKey $pool "enabled" | ternary $pool.enabled true)) }}
{{- fail (printf "worker.defaultPool is %s, which is not enabled in worker.pools: jobs that name no pool would wait for ever" $default) }}
{{- end }}
{{- range $name := include "histill.pools" . | fromJsonArray }}
{{- $full := include "histill.pool.fullname" (list $ $name) }}
{{- if gt (len $full) 52 }}
{{- fail (printf "%s is longer than the 52 characters that a StatefulSet's name may have: shorten the pool's name, or set fullnameOverride" $full) }}
{{- end }}
{{- $values := include "histill.pool.values" (list $ $name) | fromJson }}
{{- with $values.autoscaling }}
{{- if and .enabled (not (kindIs "invalid" $values.replicas)) }}
{{- fail (printf "worker.pools.%s: autoscaling decides how many pods there are; remove replicas" $name) }}
{{- end }}
{{- if and .enabled (not .prometheus.serverAddress) }}
{{- fail (printf "worker.pools.%s: autoscaling needs worker.autoscaling.prometheus.serverAddress" $name) }}
{{- end }}
{{- if and .enabled .prometheus.authenticationRef (not .prometheus.authModes) }}
{{- fail (printf "worker.pools.%s: autoscaling.prometheus.authenticationRef needs authModes, or KEDA does not use it" $name) }}
{{- end }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "worker.pools.%s: autoscaling.minReplicas is above maxReplicas" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
