{{/*
The Deployment and the ScaledObject of a worker, for the shared lanes and for dedicated lanes. Takes
{root, kind, name, lanes (value of WORKER_LANES), streams (of the triggers), lane (label), maxReplicas}.
*/}}

{{- define "imago.worker.deployment" -}}
{{- $root := .root -}}
{{- $worker := index $root.Values.workers .kind -}}
{{- $component := printf "worker-%s" .kind -}}
{{- $scaled := or $root.Values.keda.enabled $worker.autoscaling.enabled -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
{{ include "imago.labels" (dict "root" $root "component" $component) | indent 4 }}
    imago.dev/lane: {{ .lane }}
spec:
  {{- if not $scaled }}
  replicas: {{ $worker.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  selector:
    matchLabels:
{{ include "imago.selector" (dict "root" $root "component" $component) | indent 6 }}
      imago.dev/lane: {{ .lane }}
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      labels:
{{ include "imago.podLabels" (dict "root" $root "component" $component "values" $worker) | indent 8 }}
        imago.dev/lane: {{ .lane }}
        {{- if eq $root.Values.storage.backend "local" }}
        imago.dev/objects: mounted
        {{- end }}
      {{- with $worker.podAnnotations }}
      annotations:
{{ toYaml . | indent 8 }}
      {{- end }}
    spec:
{{ include "imago.pod" (dict "root" $root "account" (include "imago.serviceAccount" (dict "root" $root "component" "worker" "account" $root.Values.workers.serviceAccount))) | indent 6 }}
{{ include "imago.scheduling" (dict "root" $root "component" $component "values" $worker "class" "worker" "storage" true) | indent 6 }}
      # Longer than the longest stage, so that a terminating pod finishes its jobs.
      terminationGracePeriodSeconds: {{ add (include "imago.longest" (dict "root" $root "kind" .kind)) 30 }}
      # No init container: a worker waits for the schema itself, so that scaling from zero starts Python only once.
      containers:
        - name: worker
          image: {{ include "imago.image" (dict "root" $root "image" $worker.image) | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [worker, {{ .kind }}]
          ports:
            - {name: metrics, containerPort: {{ $root.Values.metrics.port }}}
          env:
{{ include "imago.env.common" $root | indent 12 }}
            - {name: HOST, value: 0.0.0.0}
            - {name: METRICS_PORT, value: {{ $root.Values.metrics.port | quote }}}
{{ include "imago.env.metrics" $root | indent 12 }}
{{ include "imago.env.database" (dict "root" $root) | indent 12 }}
{{ include "imago.env.nats" (dict "root" $root "component" .kind) | indent 12 }}
{{ include "imago.env.storage" $root | indent 12 }}
{{ include "imago.env.stages" $root | indent 12 }}
            - {name: WORKER_LANES, value: {{ .lanes | quote }}}
            - {name: WORKER_MAX_JOBS, value: {{ $worker.maxJobs | quote }}}
            - {name: WORKER_PROCESSES, value: {{ $worker.processes | quote }}}
            {{- if eq .kind "embed" }}
{{ include "imago.env.embed" $root | indent 12 }}
            {{- else }}
            - {name: CHILD_MEMORY_MB, value: {{ $worker.childMemoryMB | quote }}}
            {{- end }}
            {{- range $stage, $seconds := $worker.timeouts }}
            - {name: {{ upper $stage }}_TIMEOUT, value: {{ $seconds | quote }}}
            {{- end }}
            {{- if eq .kind "ocr" }}
            - {name: OCR_FALLBACK, value: {{ $worker.fallback | quote }}}
            - {name: OCR_FALLBACK_CONFIDENCE, value: {{ $worker.fallbackConfidence | quote }}}
            - {name: OCR_MAX_PAGES, value: {{ $worker.maxPages | quote }}}
            {{- end }}
            {{- if eq .kind "exif" }}
            - {name: GEOCODE, value: {{ $worker.geocode | quote }}}
            {{- end }}
            {{- if eq .kind "vision" }}
            - {name: MODERATION, value: {{ $worker.moderation | quote }}}
            - {name: VISION_DETECTOR, value: {{ $worker.detector | quote }}}
            {{- end }}
            {{- if or (eq .kind "vision") (and (eq .kind "ocr") (eq ($worker.fallback | default "") "ai")) }}
{{ include "imago.env.ai" $root | indent 12 }}
            {{- end }}
            {{- with $worker.extraEnv }}
{{ toYaml . | indent 12 }}
            {{- end }}
          {{- with $worker.extraEnvFrom }}
          envFrom:
{{ toYaml . | indent 12 }}
          {{- end }}
          # The port opens once database, storage and NATS are available, which may take minutes.
          startupProbe:
            httpGet: {path: /health, port: metrics}
            periodSeconds: 2
            failureThreshold: 150
          # Fails only if the event loop is blocked; unavailable dependencies are reported by /health/detailed.
          livenessProbe:
            httpGet: {path: /health, port: metrics}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          securityContext:
{{ include "imago.containerSecurity" $root | indent 12 }}
          resources:
{{ toYaml $worker.resources | indent 12 }}
          volumeMounts:
{{ include "imago.volumeMounts" (dict "root" $root "component" .kind "storage" true "embedding" (eq .kind "embed") "values" $worker) | indent 12 }}
      volumes:
{{ include "imago.volumes" (dict "root" $root "component" .kind "storage" true "embedding" (eq .kind "embed") "values" $worker "tmpSize" $worker.tmpSize) | indent 8 }}
{{- end -}}

{{/* The longest stage timeout of a worker in seconds; OCR's AI fallback adds twice ai.timeout, its limit with retries. */}}
{{- define "imago.longest" -}}
{{- $worker := index .root.Values.workers .kind -}}
{{- $longest := 0 -}}
{{- range $stage, $seconds := $worker.timeouts }}{{ $longest = max $longest (int $seconds) }}{{ end -}}
{{- if and (eq .kind "ocr") (eq $worker.fallback "ai") }}{{ $longest = add $longest (mul 2 (int .root.Values.ai.timeout)) }}{{ end -}}
{{- $longest -}}
{{- end -}}

{{- define "imago.worker.scaledObject" -}}
{{- $root := .root -}}
{{- $worker := index $root.Values.workers .kind -}}
{{- $keda := $root.Values.keda -}}
{{- $streams := .streams -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
{{ include "imago.labels" (dict "root" $root "component" (printf "worker-%s" .kind)) | indent 4 }}
    imago.dev/lane: {{ .lane }}
  {{- with $keda.annotations }}
  annotations:
{{ toYaml . | indent 4 }}
  {{- end }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  pollingInterval: {{ $keda.pollingInterval }}
  cooldownPeriod: {{ $keda.cooldownPeriod }}
  minReplicaCount: {{ $worker.keda.minReplicas }}
  maxReplicaCount: {{ .maxReplicas }}
  fallback:
    failureThreshold: {{ $keda.failureThreshold }}
    replicas: {{ $worker.keda.fallbackReplicas }}
    behavior: currentReplicasIfHigher
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
        scaleDown:
          stabilizationWindowSeconds: {{ $keda.scaleDownSeconds }}
          policies:
            - {type: Percent, value: 50, periodSeconds: 60}
  triggers:
    {{- range $stage := index (include "imago.stages" $root | fromJson) .kind }}
    {{- range $stream := $streams }}
    - type: nats-jetstream
      metricType: AverageValue
      metadata:
        natsServerMonitoringEndpoint: {{ include "imago.monitoringEndpoint" $root | quote }}
        useHttps: {{ $root.Values.nats.monitoringHttps | quote }}
        account: {{ $root.Values.nats.account | quote }}
        stream: {{ $stream }}
        consumer: {{ $stage }}
        lagThreshold: {{ index $worker.lagThresholds $stage | quote }}
        activationLagThreshold: "0"
    {{- end }}
    {{- end }}
{{- end -}}
