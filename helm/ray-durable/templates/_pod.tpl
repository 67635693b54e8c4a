{{/* The pod template of the head and of the workers. Arguments: root, pod (values of the head or of a group), role. */}}

{{- define "ray-durable.podTemplate" -}}
{{- $root := .root -}}
{{- $pod := .pod -}}
metadata:
  labels:
    {{- include "ray-durable.podLabels" $root | nindent 4 }}
    app.kubernetes.io/component: ray-{{ .role }}
    {{- with $pod.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $pod.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "ray-durable.serviceAccountName" $root }}
  # Only the autoscaler, a container that KubeRay adds to the head, talks to the Kubernetes API.
  automountServiceAccountToken: {{ and (eq .role "head") $root.Values.autoscaling.enabled }}
  enableServiceLinks: false
  # The kubelet counts preStop within this time: {{ $pod.drain.timeoutSeconds }} s for the hosts to hand their coroutines over, {{ $pod.drain.raySeconds }} s for Ray to
  # drain what else runs here, {{ $pod.drain.marginSeconds }} s for its processes to end.
  terminationGracePeriodSeconds: {{ $pod.drain.graceSeconds }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $pod.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $pod.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.spread }}
  topologySpreadConstraints:
    {{- range . }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "ray-durable.selectorLabels" $root | nindent 10 }}
          ray.io/group: {{ $pod.name }}
    {{- end }}
  {{- end }}
  {{- with $pod.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: ray-{{ .role }}
      {{- include "ray-durable.container" . | nindent 6 }}
    {{- with $pod.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "ray-durable.volumes" $root | nindent 4 }}
    {{- with $pod.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "ray-durable.container" -}}
{{- $root := .root -}}
{{- $pod := .pod -}}
{{- $metrics := $root.Values.metrics -}}
image: {{ include "ray-durable.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml $root.Values.securityContext | nindent 2 }}
env:
  {{- include "ray-durable.env" $root | nindent 2 }}
  # Ray's own drain on SIGTERM, which comes after preStop. Its default of 30 s is all that a pod is given by default.
  - name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
    value: {{ $pod.drain.raySeconds | quote }}
  {{- with $pod.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $from := $pod.extraEnvFrom }}
{{- with $root.Values.storage.credentialsSecret }}
{{- $from = prepend $from (dict "secretRef" (dict "name" .)) }}
{{- end }}
{{- with $from }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- if eq .role "head" }}
  - {name: gcs-server, containerPort: 6379}
  - {name: dashboard, containerPort: 8265}
  - {name: client, containerPort: 10001}
  - {name: as-metrics, containerPort: 44217}
  - {name: dash-metrics, containerPort: 44227}
  {{- end }}
  - {name: metrics, containerPort: 8080}
  {{- if $metrics.enabled }}
  {{- range $i := until (int $metrics.hostPorts) }}
  - {name: durable-{{ $i }}, containerPort: {{ add $metrics.hostPort $i }}}
  {{- end }}
  {{- if eq .role "head" }}
  # The controller is an actor that asks for the head's node. In no other pod is its port declared: Prometheus would
  # look for it in all of them, and call all but one down.
  - {name: durable-ctrl, containerPort: {{ $metrics.controllerPort }}}
  {{- end }}
  {{- end }}
resources:
  {{- toYaml $pod.resources | nindent 2 }}
lifecycle:
  preStop:
    exec:
      command: ["ray-durable", "drain", "--this-node", "--wait", "--timeout", {{ $pod.drain.timeoutSeconds | quote }}]
{{- include "ray-durable.probes" . }}
volumeMounts:
  {{- include "ray-durable.volumeMounts" $root | nindent 2 }}
  {{- with $pod.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Requests to the health page of Ray's agent, where KubeRay by default would run wget in the container. It answers for
the raylet, and on the head for the GCS too; a worker whose GCS is away for a while is healthy. Ten minutes of
failures restart a container, as in KubeRay's default. */}}
{{- define "ray-durable.probes" }}
livenessProbe:
{{- if .pod.livenessProbe }}
  {{- toYaml .pod.livenessProbe | nindent 2 }}
{{- else }}
  {{- include "ray-durable.healthPage" . | nindent 2 }}
  initialDelaySeconds: 30
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 120
{{- end }}
readinessProbe:
{{- if .pod.readinessProbe }}
  {{- toYaml .pod.readinessProbe | nindent 2 }}
{{- else }}
  {{- include "ray-durable.healthPage" . | nindent 2 }}
  initialDelaySeconds: 5
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}
{{- end -}}

{{- define "ray-durable.healthPage" -}}
httpGet:
  path: /api/healthz
  port: 52365
{{- end -}}
