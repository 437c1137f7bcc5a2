{{- /* What every container may: next to nothing. */ -}}
{{- define "weir.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "weir.user" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
{{- end -}}

{{- /* The files of the configuration, as options. Of values. */ -}}
{{- define "weir.configs" -}}
- --config
- /etc/weir/weir.yaml
{{- if .secretConfig }}
- --config
- /etc/weir/secret.yaml
{{- end }}
{{- end -}}

{{- /* The environment of weir. Of values. */ -}}
{{- define "weir.env" -}}
{{- $advertise := and (include "weir.shared" .) (include "weir.redis" .) (not .tls.secretName) -}}
{{- if or .hostNetwork $advertise }}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}
{{- if .hostNetwork }}
- name: WEIR_ADMIN
  value: "[$(POD_IP)]:{{ .adminPort }}"
{{- end }}
{{- if $advertise }}
- name: WEIR_ADVERTISE
  value: http://$(POD_IP):{{ .port }}
{{- end }}
{{- with .env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What all pods have in common. A dict of root and values. */ -}}
{{- define "weir.base" -}}
serviceAccountName: {{ include "weir.fullname" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "weir.user" . | nindent 2 }}
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* Both halves of the configuration in one directory, which changes in one step. */ -}}
{{- define "weir.configVolume" -}}
- name: config
  projected:
    sources:
      - configMap: {name: {{ include "weir.fullname" .root }}}
      {{- if .values.secretConfig }}
      - secret: {name: {{ include "weir.fullname" .root }}}
      {{- end }}
{{- end -}}

{{- define "weir.mounts" -}}
- {name: config, mountPath: /etc/weir, readOnly: true}
- {name: data, mountPath: /data}
{{- if .tls.secretName }}
- {name: tls, mountPath: /etc/weir-tls, readOnly: true}
{{- end }}
{{- with .extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "weir.volumes" -}}
{{ include "weir.configVolume" . }}
{{- if include "weir.shared" .values }}
- {name: data, emptyDir: {sizeLimit: {{ .values.storage.size }}}}
{{- else if eq .values.storage.type "emptyDir" }}
- {name: data, emptyDir: {sizeLimit: {{ .values.storage.size }}}}
{{- else if eq .values.storage.type "hostPath" }}
- {name: data, hostPath: {path: {{ .values.storage.hostPath }}, type: Directory}}
{{- end }}
{{- with .values.tls.secretName }}
- {name: tls, secret: {secretName: {{ . }}}}
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The template of a server's pod. A dict of root and values. */ -}}
{{- define "weir.pod" -}}
{{- $root := .root -}}
{{- $v := .values -}}
{{- $config := include "weir.config" . | fromYaml -}}
metadata:
  labels:
    {{- include "weir.labels" $root | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # weir reads its configuration again when it changes; but not what needs a restart.
    checksum/restart: {{ dict "server" (pick $config.server "listen" "tls") "admin" $config.admin "store" $config.store "secret" (dig "store" dict $v.secretConfig) "origin" (pick (default dict $config.origin) "url" "prefix") | toJson | sha256sum }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "weir.base" . | nindent 2 }}
  {{- if $v.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
  {{- if and (eq $v.preset "node") $v.containerd.enabled }}
  initContainers:
    # A sidecar: it runs as long as weir does, and takes its files out again after weir's end.
    # Until weir answers, and if this is ended by force, containerd goes on to the registries.
    - name: containerd
      image: {{ include "weir.image" $root }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      restartPolicy: Always
      args:
        - client
        - containerd
        - --mirror
        - http://127.0.0.1:{{ $v.port }}
        {{- range (default list $v.registries) }}
        - --upstream
        - {{ . | quote }}
        {{- end }}
        {{- with $v.containerd.version }}
        - --version
        - {{ . | quote }}
        {{- end }}
        - --write
        - /host/certs.d
        - --hold
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        runAsGroup: 0
        {{- include "weir.confined" . | nindent 8 }}
      resources:
        {{- toYaml $v.containerd.resources | nindent 8 }}
      volumeMounts:
        - {name: certs, mountPath: /host/certs.d}
  {{- end }}
  containers:
    - name: weir
      image: {{ include "weir.image" $root }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        - serve
        {{- include "weir.configs" $v | nindent 8 }}
      {{- with include "weir.env" $v | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with $v.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: registry
          containerPort: {{ $v.port }}
          {{- if and (eq $v.preset "node") (not $v.hostNetwork) }}
          hostPort: {{ $v.port }}
          hostIP: 127.0.0.1
          {{- end }}
        - name: admin
          containerPort: {{ $v.adminPort }}
      startupProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        {{- include "weir.user" . | nindent 8 }}
        {{- include "weir.confined" . | nindent 8 }}
      resources:
        {{- toYaml $v.resources | nindent 8 }}
      volumeMounts:
        {{- include "weir.mounts" $v | nindent 8 }}
  volumes:
    {{- include "weir.volumes" . | nindent 4 }}
    {{- if and (eq $v.preset "node") $v.containerd.enabled }}
    - {name: certs, hostPath: {path: {{ $v.containerd.certsDir }}, type: DirectoryOrCreate}}
    {{- end }}
{{- end -}}
