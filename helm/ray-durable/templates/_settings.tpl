{{/* Settings of ray_durable as environment, and the volumes that go with them. */}}

{{/* The process that calls `ray_durable.init` reads these and hands them on; a driver may run in any pod, so all have them. */}}
{{- define "ray-durable.env" -}}
- name: RAY_DURABLE_STORAGE
  value: {{ .Values.storage.url | quote }}
- name: RAY_DURABLE_DRAIN_TIMEOUT_S
  value: {{ .Values.drain.timeoutSeconds | quote }}
{{- if .Values.metrics.enabled }}
- name: RAY_DURABLE_METRICS_HOST
  value: {{ .Values.metrics.host | quote }}
- name: RAY_DURABLE_METRICS_PORT
  value: {{ .Values.metrics.hostPort | quote }}
- name: RAY_DURABLE_CONTROLLER_METRICS_PORT
  value: {{ .Values.metrics.controllerPort | quote }}
{{- else }}
- name: RAY_DURABLE_METRICS
  value: "0"
{{- end }}
{{- if .Values.keys.signingKey }}
- name: RAY_DURABLE_SIGNING_KEY_FILE
  value: /etc/ray-durable/keys/signing
{{- end }}
{{- if .Values.keys.encryptionKey }}
- name: RAY_DURABLE_ENCRYPTION_KEY_FILE
  value: /etc/ray-durable/keys/encryption
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: RAY_DURABLE_{{ upper $name }}
  value: {{ include "ray-durable.scalar" $value }}
{{- end }}
{{- range $name, $value := .Values.storage.options }}
- name: {{ $name }}
  value: {{ include "ray-durable.scalar" $value }}
{{- end }}
{{- end -}}

{{/* Values files turn whole numbers into floats, which would print 604800 as 6.048e+05. */}}
{{- define "ray-durable.scalar" -}}
{{- $text := toString . -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ $text = printf "%.0f" . }}{{ end -}}
{{- end -}}
{{- quote $text -}}
{{- end -}}

{{- define "ray-durable.volumes" -}}
# Ray's sessions, logs and sockets; the root file system is read-only.
- name: tmp
  emptyDir:
    {{- with .Values.scratch.sizeLimit }}
    sizeLimit: {{ . }}
    {{- else }} {}
    {{- end }}
# What libraries keep in the home directory. Not the whole home: it holds Ray's image's Python.
- name: cache
  emptyDir: {}
{{- if .Values.storage.persistentVolumeClaim }}
- name: checkpoints
  persistentVolumeClaim:
    claimName: {{ .Values.storage.persistentVolumeClaim }}
{{- end }}
{{- if or .Values.keys.signingKey .Values.keys.encryptionKey }}
- name: keys
  secret:
    secretName: {{ .Values.keys.existingSecret }}
    # Read by the group of the pod's security context, and by nobody else.
    defaultMode: 0440
    items:
      {{- with .Values.keys.signingKey }}
      - {key: {{ . }}, path: signing}
      {{- end }}
      {{- with .Values.keys.encryptionKey }}
      - {key: {{ . }}, path: encryption}
      {{- end }}
{{- end }}
{{- end -}}

{{- define "ray-durable.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /home/ray/.cache}
{{- if .Values.storage.persistentVolumeClaim }}
- name: checkpoints
  mountPath: {{ trimPrefix "file://" .Values.storage.url }}
{{- end }}
{{- if or .Values.keys.signingKey .Values.keys.encryptionKey }}
- {name: keys, mountPath: /etc/ray-durable/keys, readOnly: true}
{{- end }}
{{- end -}}
