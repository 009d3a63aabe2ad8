{{- define "tidemill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidemill.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tidemill.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidemill.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Argument: (list context component) */}}
{{- define "tidemill.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{ include "tidemill.selector" . }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidemill.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "tidemill.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "tidemill.workersNamespace" -}}
{{- default (printf "%s-services" .Release.Namespace) .Values.workers.namespace -}}
{{- end -}}

{{/* An image of ours. Argument: (list context component) */}}
{{- define "tidemill.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- $parts := compact (list $image.registry $image.repository (index . 1)) -}}
{{- printf "%s:%s" (join "/" $parts) (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}

{{- define "tidemill.credentials" -}}
{{- default (printf "%s-credentials" (include "tidemill.fullname" .)) .Values.existingSecret -}}
{{- end -}}

{{/*
A value of the credentials Secret: what was given, else what is in the cluster, else a new one; the same all over one
rendering. It begins with a letter: nats-server reads what begins with a digit as a number.
Argument: (list context key given)
*/}}
{{- define "tidemill.kept" -}}
{{- $root := index . 0 -}}{{- $key := index . 1 -}}{{- $given := index . 2 -}}
{{- if not (hasKey $root.Values "kept") -}}
{{- $_ := set $root.Values "kept" dict -}}
{{- end -}}
{{- if not (hasKey $root.Values.kept $key) -}}
{{- $secret := lookup "v1" "Secret" $root.Release.Namespace (include "tidemill.credentials" $root) -}}
{{- $there := index ($secret.data | default dict) $key | default "" | b64dec -}}
{{- $_ := set $root.Values.kept $key (coalesce $given $there (printf "k%s" (randAlphaNum 31))) -}}
{{- end -}}
{{- index $root.Values.kept $key -}}
{{- end -}}

{{- define "tidemill.host" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s.%s.svc.%s" (include "tidemill.fullname" $root) (index . 1) $root.Release.Namespace $root.Values.clusterDomain -}}
{{- end -}}

{{- define "tidemill.busUrl" -}}
{{- if .Values.nats.enabled -}}
{{- printf "nats://%s:4222" (include "tidemill.host" (list . "nats")) -}}
{{- else -}}
{{- required "nats.external.url is needed where nats.enabled is false" .Values.nats.external.url -}}
{{- end -}}
{{- end -}}

{{/* The bus settings of all components, as JSON, without their identities. */}}
{{- define "tidemill.bus" -}}
{{- $bus := dict "url" (include "tidemill.busUrl" .) -}}
{{- if and .Values.nats.enabled (ge (int .Values.nats.replicas) 3) -}}
{{- $_ := set $bus "replicas" 3 -}}
{{- end -}}
{{- merge (deepCopy .Values.bus) $bus | toJson -}}
{{- end -}}

{{- define "tidemill.storeEndpoint" -}}
{{- if eq .Values.store.kind "seaweedfs" -}}
{{- printf "http://%s:8333" (include "tidemill.host" (list . "store")) -}}
{{- else -}}
{{- .Values.store.external.endpoint -}}
{{- end -}}
{{- end -}}

{{- define "tidemill.publicUrl" -}}
{{- $gateway := .Values.gateway -}}
{{- if $gateway.publicUrl -}}
{{- $gateway.publicUrl -}}
{{- else if and $gateway.ingress.enabled $gateway.ingress.host -}}
{{- printf "%s://%s" (ternary "https" "http" (ne $gateway.ingress.tlsSecret "")) $gateway.ingress.host -}}
{{- else if and $gateway.httpRoute.enabled $gateway.httpRoute.hostnames -}}
{{- printf "https://%s" (first $gateway.httpRoute.hostnames) -}}
{{- else -}}
{{- printf "http://%s:%v" (include "tidemill.host" (list . "gateway")) $gateway.service.port -}}
{{- end -}}
{{- end -}}

{{- define "tidemill.isSqlite" -}}
{{- if not (or .Values.database.url .Values.database.existingSecret) -}}yes{{- end -}}
{{- end -}}

{{/* Variables from a map. Argument: (list prefix map) */}}
{{- define "tidemill.environment" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}

{{/* Settings that every component has. Argument: (list context PREFIX identity) */}}
{{- define "tidemill.componentEnv" -}}
{{- $root := index . 0 -}}{{- $prefix := index . 1 -}}
{{- include "tidemill.busEnv" . }}
- {name: {{ $prefix }}_TELEMETRY__LOG_LEVEL, value: {{ $root.Values.telemetry.logLevel | quote }}}
- {name: {{ $prefix }}_TELEMETRY__LOG_FORMAT, value: {{ $root.Values.telemetry.logFormat | quote }}}
{{- end -}}

{{- define "tidemill.busSecret" -}}
{{- if .Values.nats.enabled -}}
{{- include "tidemill.fullname" . }}-bus
{{- else -}}
{{- .Values.nats.external.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* How a process reaches the bus. Argument: (list context PREFIX identity) */}}
{{- define "tidemill.busEnv" -}}
{{- $root := index . 0 -}}{{- $prefix := index . 1 -}}
- {name: {{ $prefix }}_BUS, value: {{ include "tidemill.bus" $root | quote }}}
{{- if include "tidemill.busSecret" $root }}
- {name: {{ $prefix }}_BUS__CREDENTIALS_FILE, value: /run/tidemill/bus/bus-{{ index . 2 }}.creds}
{{- end }}
{{- end -}}

{{/* Its identity, mounted, and no other. Argument: context */}}
{{- define "tidemill.busMount" -}}
{{- if include "tidemill.busSecret" . }}
- {name: bus, mountPath: /run/tidemill/bus, readOnly: true}
{{- end }}
{{- end -}}

{{/* Argument: (list context file …) */}}
{{- define "tidemill.busVolume" -}}
{{- $root := first . -}}
{{- with include "tidemill.busSecret" $root }}
- name: bus
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
    {{- range rest $ }}
    - {key: {{ . }}, path: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Waits until the bus is there and has its Streams, so that the component starts once. Argument: (list context component identity) */}}
{{- define "tidemill.waiting" -}}
{{- $root := index . 0 -}}{{- $identity := index . 2 -}}
- name: wait-for-bus
  image: {{ include "tidemill.image" (list $root (index . 1)) }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: [python, -m, tidemill_common.bus.preparing, wait]
  env:
  {{- include "tidemill.busEnv" (list $root "TIDEMILL_PREPARE" $identity) | nindent 2 }}
  securityContext: {{- toYaml $root.Values.securityContext | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 48Mi}
    limits: {memory: 256Mi}
  volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- include "tidemill.busMount" $root | nindent 2 }}
{{- end -}}

{{/* What all pods have in common. Argument: (list context values-of-the-component) */}}
{{- define "tidemill.pod" -}}
{{- $root := index . 0 -}}{{- $own := index . 1 -}}
enableServiceLinks: false
securityContext: {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
dnsPolicy: {{ $root.Values.dnsPolicy }}
{{- with $root.Values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A claim's spec. Argument: persistence values */}}
{{- define "tidemill.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end -}}
