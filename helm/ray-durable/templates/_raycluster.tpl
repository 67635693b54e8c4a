{{/* The spec of a RayCluster. Arguments: root, head (values of the head's pod), groups. */}}
{{- define "ray-durable.rayClusterSpec" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
rayVersion: {{ $v.rayVersion | quote }}
{{- if $v.rayAuth.enabled }}
authOptions:
  mode: token
  {{- with $v.rayAuth.secretName }}
  secretName: {{ . }}
  {{- end }}
{{- end }}
headGroupSpec:
  serviceType: {{ .head.serviceType }}
  rayStartParams:
    num-cpus: {{ .head.numCpus | quote }}
    dashboard-host: "0.0.0.0"
    {{- range $name, $value := .head.rayStartParams }}
    {{ $name }}: {{ $value | quote }}
    {{- end }}
  template:
    {{- include "ray-durable.podTemplate" (dict "root" $root "pod" .head "role" "head") | nindent 4 }}
workerGroupSpecs:
{{- range .groups }}
  - groupName: {{ .name }}
    replicas: {{ .replicas }}
    minReplicas: {{ .minReplicas }}
    maxReplicas: {{ .maxReplicas }}
    {{- if not (kindIs "invalid" .idleTimeoutSeconds) }}
    idleTimeoutSeconds: {{ .idleTimeoutSeconds }}
    {{- end }}
    {{- with .rayLabels }}
    labels:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    rayStartParams:
      {{- range $name, $value := .rayStartParams }}
      {{ $name }}: {{ $value | quote }}
      {{- else }} {}
      {{- end }}
    template:
      {{- include "ray-durable.podTemplate" (dict "root" $root "pod" . "role" "worker") | nindent 6 }}
{{- else }} []
{{- end }}
{{- end -}}

{{/* The head's values as its pod template needs them. */}}
{{- define "ray-durable.head" -}}
{{- $head := deepCopy .Values.head -}}
{{- $_ := set $head "name" "headgroup" -}}
{{- $_ := set $head "drain" (include "ray-durable.drain" (dict "root" . "own" $head.drain) | fromYaml) -}}
{{- toYaml $head -}}
{{- end -}}
