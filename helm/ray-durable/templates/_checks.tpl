{{/* Mistakes across several values, which the schema cannot see: each stops the rendering with what to do. */}}
{{- define "ray-durable.checks" -}}
{{- $v := .Values -}}
{{- if and (hasPrefix "file://" $v.storage.url) (not $v.storage.persistentVolumeClaim) -}}
{{- fail (printf "storage.url is %s, a directory, which each pod would have for itself: a coroutine could not move. Give storage.persistentVolumeClaim (a ReadWriteMany claim, mounted there), or use s3://, gs:// or az://." $v.storage.url) -}}
{{- end -}}
{{- if and $v.storage.persistentVolumeClaim (not (hasPrefix "file://" $v.storage.url)) -}}
{{- fail (printf "storage.persistentVolumeClaim is given, but storage.url is %s. Use file:///path for a volume, or leave the claim out." $v.storage.url) -}}
{{- end -}}
{{- if and (or $v.keys.signingKey $v.keys.encryptionKey) (not $v.keys.existingSecret) -}}
{{- fail "keys.signingKey and keys.encryptionKey name entries of a Secret: give its name in keys.existingSecret." -}}
{{- end -}}
{{- if and $v.keys.existingSecret (not (or $v.keys.signingKey $v.keys.encryptionKey)) -}}
{{- fail "keys.existingSecret is given, but no entry of it: set keys.signingKey, keys.encryptionKey or both. Else nothing would be signed." -}}
{{- end -}}
{{- if $v.gcsFaultTolerance.enabled -}}
{{- if and (eq $v.gcsFaultTolerance.backend "redis") (not $v.gcsFaultTolerance.redis.address) -}}
{{- fail "gcsFaultTolerance is enabled with backend redis: give gcsFaultTolerance.redis.address (host:port)." -}}
{{- end -}}
{{- end -}}
{{- if and $v.demo.enabled (not (include "ray-durable.groups" . | fromYaml).groups) -}}
{{- fail "demo.enabled: the demo's workers are like those of the first group, and workerGroups has none." -}}
{{- end -}}
{{- range $port := list 6379 8080 8265 10001 44217 44227 52365 -}}
{{- if or (eq (int $v.metrics.controllerPort) $port) (and (le (int $v.metrics.hostPort) $port) (lt $port (int (add $v.metrics.hostPort $v.metrics.hostPorts)))) -}}
{{- fail (printf "metrics.hostPort and metrics.controllerPort may not be Ray's own port %d." $port) -}}
{{- end -}}
{{- end -}}
{{- if and (le (int $v.metrics.hostPort) (int $v.metrics.controllerPort)) (lt (int $v.metrics.controllerPort) (int (add $v.metrics.hostPort $v.metrics.hostPorts))) -}}
{{- fail (printf "metrics.controllerPort %d lies within the hosts' ports, %d to %d." (int $v.metrics.controllerPort) (int $v.metrics.hostPort) (int (sub (add $v.metrics.hostPort $v.metrics.hostPorts) 1))) -}}
{{- end -}}
{{- range $group := (include "ray-durable.groups" . | fromYaml).groups -}}
{{- if gt (int $group.minReplicas) (int $group.maxReplicas) -}}
{{- fail (printf "workerGroups.%s: minReplicas %d is more than maxReplicas %d." $group.name (int $group.minReplicas) (int $group.maxReplicas)) -}}
{{- end -}}
{{- if or (lt (int $group.replicas) (int $group.minReplicas)) (gt (int $group.replicas) (int $group.maxReplicas)) -}}
{{- fail (printf "workerGroups.%s: replicas %d is not between minReplicas %d and maxReplicas %d." $group.name (int $group.replicas) (int $group.minReplicas) (int $group.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
