{{/* Names, labels and images. */}}

{{- define "imago.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 32 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 32 characters: with `-worker-vision-` and a client's 16 characters it must fit into a label's 63. */}}
{{- define "imago.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "imago.name" .) .Release.Name -}}
{{- .Release.Name | trunc 32 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "imago.name" .) | trunc 32 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of all objects; takes {root, component}. */}}
{{- define "imago.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "imago.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: imago
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels for selectors, which are immutable; takes {root, component}. */}}
{{- define "imago.selector" -}}
{{ include "imago.release" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "imago.release" -}}
app.kubernetes.io/name: {{ include "imago.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of a pod template; takes {root, component, values?}. Without versions, which would restart unchanged pods. */}}
{{- define "imago.podLabels" -}}
{{ include "imago.selector" . }}
app.kubernetes.io/part-of: imago
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with (.values | default dict).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The name of an image; takes {root, image}. */}}
{{- define "imago.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- if eq $tag "latest" -}}
{{- fail (printf "%s: the tag latest does not identify a version; set image.tag to one" .image.repository) -}}
{{- end -}}
{{- $name := .image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" $registry $name -}}{{- end -}}
{{- if .image.digest -}}
{{- printf "%s:%s@%s" $name $tag .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name $tag -}}
{{- end -}}
{{- end -}}

{{/* The ServiceAccount of a component; takes {root, component, account}. */}}
{{- define "imago.serviceAccount" -}}
{{- if .account.create -}}
{{- .account.name | default (printf "%s-%s" (include "imago.fullname" .root) .component) -}}
{{- else -}}
{{- required (printf "serviceAccount.name of %s: required if create is false" .component) .account.name -}}
{{- end -}}
{{- end -}}

{{/* The stages that each worker serves, as JSON; the stage embed exists only with a model. */}}
{{- define "imago.stages" -}}
{"exif": ["thumbnail", "exif"], "ocr": ["ocr"], "vision": ["vision"]{{ if .Values.workers.embed.enabled }}, "embed": ["embed"]{{ end }}}
{{- end -}}

{{/* The components of the workers, and of those before and after them, as JSON; takes {root, with}. */}}
{{- define "imago.withWorkers" -}}
{{- $components := list -}}
{{- range keys (include "imago.stages" .root | fromJson) | sortAlpha }}{{ $components = append $components (printf "worker-%s" .) }}{{ end -}}
{{- concat .with $components | toJson -}}
{{- end -}}

{{- define "imago.secrets" -}}
{{- .Values.secrets.existingSecret | default (printf "%s-secrets" (include "imago.fullname" .)) -}}
{{- end -}}

{{/* The host and port from which KEDA reads the lag. */}}
{{- define "imago.monitoringEndpoint" -}}
{{- if .Values.nats.monitoringEndpoint -}}
{{- .Values.nats.monitoringEndpoint -}}
{{- else if .Values.nats.bundled.enabled -}}
{{- printf "%s-nats-headless.%s.svc:8222" (include "imago.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{- define "imago.apiUrl" -}}
{{- $port := int .Values.api.service.port -}}
{{- printf "http://%s-api.%s.svc%s" (include "imago.fullname" .) .Release.Namespace (eq $port 80 | ternary "" (printf ":%d" $port)) -}}
{{- end -}}

{{/* The namespaces of `operator.watchNamespaces`, as JSON; an empty list means the namespace of the release. */}}
{{- define "imago.watchNamespaces" -}}
{{- .Values.operator.watchNamespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{- define "imago.claim" -}}
{{- .Values.storage.local.existingClaim | default (printf "%s-objects" (include "imago.fullname" .)) -}}
{{- end -}}
