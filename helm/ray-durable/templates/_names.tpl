{{/* Names, labels and the image: what every resource has in common. */}}

{{- define "ray-durable.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name in all resources. 40 characters at most, since KubeRay adds its own to a RayCluster's and a
RayJob's; a letter first, since the name becomes that of a Service. */}}
{{- define "ray-durable.fullname" -}}
{{- $name := include "ray-durable.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- $full = ternary $full (printf "ray-%s" $full) (regexMatch "^[a-z]" $full) -}}
{{- $full | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "ray-durable.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ray-durable.labels" -}}
helm.sh/chart: {{ include "ray-durable.chart" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ray-durable
{{ include "ray-durable.selectorLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without versions, so that a new chart does not make pods anew that are the same. */}}
{{- define "ray-durable.podLabels" -}}
{{ include "ray-durable.selectorLabels" . }}
app.kubernetes.io/part-of: ray-durable
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels that all pods of this release bear, the demo's too. KubeRay keeps app.kubernetes.io/name for itself. */}}
{{- define "ray-durable.selectorLabels" -}}
ray-durable.io/release: {{ include "ray-durable.fullname" . }}
{{- end -}}

{{- define "ray-durable.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ray-durable.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "ray-durable.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}
