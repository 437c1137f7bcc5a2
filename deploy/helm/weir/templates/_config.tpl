{{- /* weir.yaml: what the chart knows, under what the values say. A dict of root and values. */ -}}
{{- define "weir.config" -}}
{{- $v := .values -}}
{{- $known := dict "log" (dict "format" "json") -}}
{{- if $v.hostNetwork -}}
{{- $_ := set $known "server" (dict "listen" (printf "127.0.0.1:%v" $v.port)) -}}
{{- $_ := set $known "admin" (dict "listen" (printf "${WEIR_ADMIN:-:%v}" $v.adminPort)) -}}
{{- else -}}
{{- $_ := set $known "server" (dict "listen" (printf ":%v" $v.port)) -}}
{{- $_ := set $known "admin" (dict "listen" (printf ":%v" $v.adminPort)) -}}
{{- end -}}
{{- if $v.tls.secretName -}}
{{- $_ := set $known.server "tls" (dict "certificate" "/etc/weir-tls/tls.crt" "key" "/etc/weir-tls/tls.key") -}}
{{- end -}}
{{- if $v.gateway.enabled -}}
{{- $_ := set $known.server "external_url" (printf "https://%s" $v.gateway.host) -}}
{{- else if $v.ingress.enabled -}}
{{- $_ := set $known.server "external_url" (printf "%s://%s" (ternary "https" "http" (ne $v.ingress.tlsSecretName "")) $v.ingress.host) -}}
{{- end -}}
{{- if include "weir.shared" $v -}}
{{- $_ := set $known "store" (dict "blobs" (dict "s3" (dict "spool" "/data"))) -}}
{{- if and (include "weir.redis" $v) (not $v.tls.secretName) -}}
{{- $_ := set $known.store "redis" (dict "advertise" "${WEIR_ADVERTISE:-}") -}}
{{- end -}}
{{- else -}}
{{- $_ := set $known "store" (dict "blobs" (dict "filesystem" (dict "root" "/data"))) -}}
{{- end -}}
{{- $upkeep := dict -}}
{{- range $job, $section := dict "gc" "gc" "scrub" "scrub" "retain" "retention" -}}
{{- if (get $v.cronJobs $job).schedule -}}
{{- $_ := set $upkeep $section (dict "interval" "0s") -}}
{{- end -}}
{{- end -}}
{{- if $upkeep -}}
{{- $_ := set $known "origin" $upkeep -}}
{{- end -}}
{{- $config := mergeOverwrite $known (deepCopy $v.config) -}}
{{- if eq $v.preset "node" -}}
{{- $upstreams := include "weir.upstreams" . | fromYamlArray -}}
{{- $_ := set $config "mirror" (mergeOverwrite (default dict $config.mirror) (dict "upstreams" $upstreams)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- /* "true" where replicas know of each other. Of values. */ -}}
{{- define "weir.redis" -}}
{{- $config := mergeOverwrite (deepCopy .config) (deepCopy .secretConfig) -}}
{{- if or (dig "store" "redis" "url" "" $config) (dig "store" "redis" "url_file" "" $config) -}}true{{- end -}}
{{- end -}}

{{- /* The upstreams of a node: those of the configuration, and each registry that is not among
       them. Where there is a central tier it is their first endpoint, what they have themselves comes after it. */ -}}
{{- define "weir.upstreams" -}}
{{- $v := .values -}}
{{- $upstreams := deepCopy (dig "mirror" "upstreams" list $v.config) -}}
{{- $named := dict -}}
{{- range $upstreams -}}{{- $_ := set $named .name true -}}{{- end -}}
{{- range $v.registries -}}
{{- if not (hasKey $named .) -}}{{- $upstreams = append $upstreams (dict "name" .) -}}{{- end -}}
{{- end -}}
{{- if $v.central.url -}}
{{- $central := tpl $v.central.url .root | trimSuffix "/" -}}
{{- range $upstreams -}}
{{- /* In a path a port follows an underscore. */ -}}
{{- $first := mergeOverwrite (dict "url" (printf "%s/%s" $central (replace ":" "_" .name))) (deepCopy $v.central.endpoint) -}}
{{- $own := list (dict "url" (printf "https://%s" (ternary "registry-1.docker.io" .name (eq .name "docker.io")))) -}}
{{- $endpoints := list $first -}}
{{- /* Or the nodes would fetch half of each blob there. */ -}}
{{- range (default $own .endpoints) -}}
{{- $endpoints = append $endpoints (mergeOverwrite (dict "fallback" true) .) -}}
{{- end -}}
{{- $_ := set . "endpoints" $endpoints -}}
{{- end -}}
{{- end -}}
{{- toYaml $upstreams -}}
{{- end -}}
