{{- /* The values that hold: those given, before those of the preset. */ -}}
{{- define "weir.values" -}}
{{- $preset := .Files.Get (printf "presets/%s.yaml" .Values.preset) -}}
{{- if not $preset -}}
{{- fail (printf "preset %q is none: write node, central or sidecar" .Values.preset) -}}
{{- end -}}
{{- /* The first with sidecars that start before all others and end after them. Not kubeVersion in
       Chart.yaml: a helm that was built by `go install` takes 1.20.0 for what it renders for. */ -}}
{{- $kubernetes := .Capabilities.KubeVersion.Version -}}
{{- if and (semverCompare "<1.29.0-0" $kubernetes) (ne $kubernetes "v1.20.0") -}}
{{- fail (printf "Kubernetes is %s: it must be 1.29 or newer" $kubernetes) -}}
{{- end -}}
{{- $values := mergeOverwrite (fromYaml $preset) (deepCopy .Values) -}}
{{- include "weir.refuse" $values -}}
{{- toYaml $values -}}
{{- end -}}

{{- define "weir.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* A CronJob has 11 characters less than the 63 of a label, for its jobs: 52, and up to 7 are what follows. */ -}}
{{- define "weir.fullname" -}}
{{- $name := include "weir.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "weir.selector" -}}
app.kubernetes.io/name: {{ include "weir.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.preset }}
{{- end -}}

{{- /* Metadata of an object: a list of the root and what its name ends with. */ -}}
{{- define "weir.metadata" -}}
{{- $root := first . -}}
name: {{ include "weir.fullname" $root }}{{ last . }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "weir.labels" $root | nindent 2 }}
{{- end -}}

{{- define "weir.image" -}}
{{- $image := .Values.image -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- /* "true" where what is stored is in a bucket, which any number of pods may share. Of values. */ -}}
{{- define "weir.shared" -}}
{{- $config := mergeOverwrite (deepCopy .config) (deepCopy .secretConfig) -}}
{{- if dig "store" "blobs" "s3" false $config -}}true{{- end -}}
{{- end -}}

{{- define "weir.workload" -}}
{{- if eq .preset "node" -}}DaemonSet
{{- else if include "weir.shared" . -}}Deployment
{{- else -}}StatefulSet
{{- end -}}
{{- end -}}

{{- /* What a schema cannot say of values: ends the rendering. */ -}}
{{- define "weir.refuse" -}}
{{- $config := mergeOverwrite (deepCopy .config) (deepCopy .secretConfig) -}}
{{- $several := or .autoscaling.enabled (gt (int (default 1 .replicas)) 1) -}}
{{- if eq .preset "node" -}}
{{- if or $several .ingress.enabled .gateway.enabled -}}
{{- fail "preset node has one weir on each node, for that node: replicas, autoscaling, ingress and gateway are for the others" -}}
{{- end -}}
{{- /* containerd is told http, and would go on to the registry for ever. */ -}}
{{- if or .tls.secretName (dig "server" "tls" "certificate" "" $config) -}}
{{- fail "preset node has no TLS: its node reaches it on loopback; tls is for the others" -}}
{{- end -}}
{{- else if .hostNetwork -}}
{{- fail "hostNetwork is for preset node" -}}
{{- end -}}
{{- if and $several (not (include "weir.shared" .)) -}}
{{- fail "more than one replica needs config.store.blobs.s3: a volume belongs to one pod" -}}
{{- end -}}
{{- if and $several (not (dig "store" "redis" "url" "" $config)) (not (dig "store" "redis" "url_file" "" $config)) -}}
{{- fail "more than one replica needs config.store.redis.url: it makes one registry of them" -}}
{{- end -}}
{{- if and (or .cronJobs.gc.schedule .cronJobs.scrub.schedule .cronJobs.retain.schedule) (or (eq .preset "node") (not (include "weir.shared" .))) -}}
{{- fail "cronJobs need config.store.blobs.s3: on a volume the server does the same work itself, each config.origin.gc.interval" -}}
{{- end -}}
{{- if and (eq .preset "sidecar") (not (dig "origin" "url" "" $config)) -}}
{{- fail "preset sidecar needs config.origin.url: the registry that it stands in front of" -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{- fail "ingress.enabled needs ingress.host" -}}
{{- end -}}
{{- if and .gateway.enabled (or (not .gateway.host) (not .gateway.parentRefs)) -}}
{{- fail "gateway.enabled needs gateway.host and gateway.parentRefs" -}}
{{- end -}}
{{- if and (or .ingress.enabled .gateway.enabled) (not .service.enabled) -}}
{{- fail "ingress and gateway need service.enabled" -}}
{{- end -}}
{{- end -}}
