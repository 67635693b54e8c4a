{{/* Worker groups: the defaults of `worker`, overlaid by what a group says. */}}

{{/* Put every entry of `over` into `base`, maps within maps too. Sprig's mergeOverwrite would drop 0, false and "",
which a group must be able to say (replicas: 0). */}}
{{- define "ray-durable.overlay" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) -}}
{{- $_ := include "ray-durable.overlay" (dict "base" (get $base $key) "over" $value) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* All groups as YAML, `groups: [{name: …, …}]`, numbers of pods and times to drain filled in. */}}
{{- define "ray-durable.groups" -}}
{{- $groups := list -}}
{{- range $name, $own := .Values.workerGroups -}}
{{- if not (kindIs "invalid" $own) -}}
{{- $group := deepCopy $.Values.worker -}}
{{- $_ := include "ray-durable.overlay" (dict "base" $group "over" $own) -}}
{{- $_ := set $group "name" $name -}}
{{- $_ := set $group "drain" (include "ray-durable.drain" (dict "root" $ "own" $group.drain) | fromYaml) -}}
{{- if kindIs "invalid" $group.minReplicas }}{{ $_ := set $group "minReplicas" $group.replicas }}{{ end -}}
{{- if kindIs "invalid" $group.maxReplicas }}{{ $_ := set $group "maxReplicas" $group.replicas }}{{ end -}}
{{- $groups = append $groups $group -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end -}}

{{/* Times to drain, with the grace period of the pod: the sum, since the kubelet counts preStop within it. */}}
{{- define "ray-durable.drain" -}}
{{- $drain := deepCopy .root.Values.drain -}}
{{- $_ := include "ray-durable.overlay" (dict "base" $drain "over" (.own | default dict)) -}}
{{- $grace := add $drain.timeoutSeconds $drain.raySeconds $drain.marginSeconds -}}
{{- toYaml (set $drain "graceSeconds" $grace) -}}
{{- end -}}
