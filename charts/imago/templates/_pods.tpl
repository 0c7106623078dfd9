{{/* Parts of pods: security, environment, volumes, scheduling. */}}

{{/* Pod Security `restricted`; takes {root, security?}. */}}
{{- define "imago.podSecurity" -}}
runAsNonRoot: true
{{ toYaml (.security | default .root.Values.podSecurityContext) }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "imago.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The fields common to all pods; takes {root, account, token?, security?}. */}}
{{- define "imago.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .token | default false }}
{{- /* Kubernetes' variables for Services, such as IMAGO_NATS_PORT, would be read as settings. */}}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{ toYaml . | indent 2 }}
{{- end }}
securityContext:
{{ include "imago.podSecurity" . | indent 2 }}
{{- end -}}

{{/* The scheduling of pods; takes {root, component, values, class?}. */}}
{{- define "imago.scheduling" -}}
{{- $root := .root -}}
{{- $class := .values.priorityClassName -}}
{{- if and (not $class) .class $root.Values.priorityClasses.create -}}
{{- $class = printf "%s-%s-%s" $root.Release.Namespace (include "imago.fullname" $root) .class -}}
{{- end -}}
{{- with $class }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
{{ toYaml . | indent 2 }}
{{- end }}
{{- $affinity := deepCopy (.values.affinity | default dict) -}}
{{- if and .storage (eq $root.Values.storage.backend "local") $root.Values.storage.local.singleNode -}}
{{- $same := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (merge (dict "imago.dev/objects" "mounted") (include "imago.release" $root | fromYaml))) -}}
{{- $affinity = mergeOverwrite (dict "podAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $same))) $affinity -}}
{{- end -}}
{{- with $affinity }}
affinity:
{{ toYaml . | indent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
{{ toYaml .values.topologySpreadConstraints | indent 2 }}
{{- else }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
{{ include "imago.selector" $ | indent 8 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* An environment variable from a Secret; takes {name, secret, key}. */}}
{{- define "imago.secretEnv" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end -}}

{{- define "imago.env.common" -}}
- {name: LOG_LEVEL, value: {{ .Values.logLevel | quote }}}
{{- with .Values.telemetry.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- $text := toString $value }}
{{- /* Numbers from YAML are floats, which are otherwise rendered as 2.1e+08. */}}
{{- if kindIs "float64" $value }}{{ if eq $value (floor $value) }}{{ $text = int64 $value | toString }}{{ end }}{{ end }}
- {name: {{ $name }}, value: {{ $text | quote }}}
{{- end }}
{{- end -}}

{{/* Stages without a worker are skipped, because otherwise no image would finish. */}}
{{- define "imago.env.stages" -}}
- {name: OCR_ENGINE, value: {{ .Values.workers.ocr.engine | quote }}}
- {name: OCR_LANGUAGES, value: {{ .Values.workers.ocr.languages | quote }}}
{{- with .Values.workers.ocr.installedLanguages }}
- {name: OCR_INSTALLED_LANGUAGES, value: {{ . | quote }}}
{{- end }}
{{- $off := list -}}
{{- if not .Values.workers.ocr.enabled -}}{{- $off = append $off "ocr" -}}{{- end -}}
{{- if not .Values.workers.vision.enabled -}}{{- $off = append $off "vision" -}}{{- end -}}
{{- with $off }}
- {name: DISABLED_STAGES, value: {{ join "," . | quote }}}
{{- end }}
{{- end -}}

{{/* The stage embed: its model is mounted read-only into the API and the worker; others need to know that it exists. */}}
{{- define "imago.env.embed" -}}
{{- if .Values.workers.embed.enabled }}
- {name: EMBED_MODEL_DIR, value: {{ include "imago.modelDirectory" . | quote }}}
- {name: EMBED_MEMORY_MB, value: {{ .Values.workers.embed.childMemoryMB | quote }}}
{{- end }}
{{- end -}}

{{- define "imago.modelDirectory" -}}/var/lib/imago/embedding{{- end -}}

{{/* The Secret and key of a database URL, as JSON; takes {root, migrations?}. */}}
{{- define "imago.databaseUrl" -}}
{{- $database := .root.Values.database -}}
{{- if .root.Values.postgresql.bundled.enabled -}}
{{- dict "name" "DATABASE_URL" "secret" (printf "%s-postgresql" (include "imago.fullname" .root)) "key" (ternary "migration-url" "url" (.migrations | default false)) | toJson -}}
{{- else if .migrations -}}
{{- dict "name" "DATABASE_URL" "secret" ($database.migrations.existingSecret | default $database.existingSecret) "key" $database.migrations.urlKey | toJson -}}
{{- else -}}
{{- dict "name" "DATABASE_URL" "secret" $database.existingSecret "key" $database.urlKey | toJson -}}
{{- end -}}
{{- end -}}

{{/* The database URL; takes {root, migrations?}, with `migrations` the owner's instead of the runtime role's. */}}
{{- define "imago.env.database" -}}
{{ include "imago.secretEnv" (include "imago.databaseUrl" . | fromJson) }}
- {name: DATABASE_POOL_SIZE, value: {{ .root.Values.database.poolSize | quote }}}
- {name: DATABASE_TIMEOUT, value: {{ .root.Values.database.timeout | quote }}}
{{- end -}}

{{/* The Secret of a component's NATS user, as JSON; takes {root, component}. */}}
{{- define "imago.natsCredential" -}}
{{- $given := index .root.Values.nats.credentials .component | default dict -}}
{{- if $given.existingSecret -}}
{{- mergeOverwrite (dict "method" "password" "userKey" "user" "passwordKey" "password" "tokenKey" "token" "credsKey" "nats.creds") $given | toJson -}}
{{- else if .root.Values.nats.bundled.enabled -}}
{{- dict "existingSecret" (printf "%s-nats" (include "imago.fullname" .root)) "method" "password" "userKey" "" "passwordKey" (printf "%s-password" .component) | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* The variables for NATS; takes {root, component}, which is api, operator, exif, ocr, vision or embed. */}}
{{- define "imago.env.nats" -}}
{{- $root := .root -}}
{{- $nats := $root.Values.nats -}}
- {name: NATS_URL, value: {{ ternary (printf "nats://%s-nats:4222" (include "imago.fullname" $root)) $nats.url $nats.bundled.enabled | quote }}}
- {name: NATS_REPLICAS, value: {{ ternary 1 $nats.streamReplicas $nats.bundled.enabled | quote }}}
{{- $credential := include "imago.natsCredential" . | fromJson }}
{{- if eq ($credential.method | default "") "password" }}
{{- if $credential.userKey }}
{{ include "imago.secretEnv" (dict "name" "NATS_USER" "secret" $credential.existingSecret "key" $credential.userKey) }}
{{- else }}
- {name: NATS_USER, value: {{ .component }}}
{{- end }}
{{ include "imago.secretEnv" (dict "name" "NATS_PASSWORD" "secret" $credential.existingSecret "key" $credential.passwordKey) }}
{{- else if eq ($credential.method | default "") "token" }}
{{ include "imago.secretEnv" (dict "name" "NATS_TOKEN" "secret" $credential.existingSecret "key" $credential.tokenKey) }}
{{- else if eq ($credential.method | default "") "creds" }}
- {name: NATS_CREDS_FILE, value: /etc/imago/nats-creds/{{ $credential.credsKey }}}
{{- end }}
{{- if $nats.tls.existingSecret }}
- {name: NATS_TLS_CA, value: /etc/imago/nats-tls/{{ $nats.tls.caKey }}}
{{- if $nats.tls.certKey }}
- {name: NATS_TLS_CERT, value: /etc/imago/nats-tls/{{ $nats.tls.certKey }}}
- {name: NATS_TLS_KEY, value: /etc/imago/nats-tls/{{ $nats.tls.keyKey }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "imago.env.storage" -}}
- {name: STORAGE_BACKEND, value: {{ .Values.storage.backend }}}
- {name: SIGNED_URL_TTL, value: {{ .Values.storage.signedUrlTtl | quote }}}
{{- if eq .Values.storage.backend "local" }}
- {name: STORAGE_DIR, value: /var/lib/imago/objects}
{{ include "imago.secretEnv" (dict "name" "SIGNED_URL_SECRET" "secret" (include "imago.secrets" .) "key" .Values.secrets.keys.signedUrlSecret) }}
{{- else }}
{{- $s3 := .Values.storage.s3 }}
- {name: S3_BUCKET, value: {{ $s3.bucket | quote }}}
- {name: S3_REGION, value: {{ $s3.region | quote }}}
- {name: S3_PREFIX, value: {{ $s3.prefix | quote }}}
- {name: S3_ADDRESSING, value: {{ $s3.addressing | quote }}}
{{- with $s3.endpointUrl }}
- {name: S3_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with $s3.publicEndpointUrl }}
- {name: S3_PUBLIC_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with $s3.existingSecret }}
{{ include "imago.secretEnv" (dict "name" "S3_ACCESS_KEY" "secret" . "key" $s3.accessKeyKey) }}
{{ include "imago.secretEnv" (dict "name" "S3_SECRET_KEY" "secret" . "key" $s3.secretKeyKey) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "imago.env.ai" -}}
{{- $ai := .Values.ai -}}
- {name: AI_TIMEOUT, value: {{ $ai.timeout | quote }}}
{{- with $ai.provider }}
- {name: AI_PROVIDER, value: {{ . | quote }}}
{{- end }}
{{- with $ai.fallback }}
- {name: AI_FALLBACK, value: {{ join "," . | quote }}}
{{- end }}
{{- with $ai.model }}
- {name: AI_MODEL, value: {{ . | quote }}}
{{- end }}
{{- with $ai.geminiBaseUrl }}
- {name: GEMINI_BASE_URL, value: {{ . | quote }}}
{{- end }}
{{- with $ai.openrouterBaseUrl }}
- {name: OPENROUTER_BASE_URL, value: {{ . | quote }}}
{{- end }}
{{- if $ai.existingSecret }}
{{- with $ai.geminiApiKeyKey }}
{{ include "imago.secretEnv" (dict "name" "GEMINI_API_KEY" "secret" $ai.existingSecret "key" .) }}
{{- end }}
{{- with $ai.openrouterApiKeyKey }}
{{ include "imago.secretEnv" (dict "name" "OPENROUTER_API_KEY" "secret" $ai.existingSecret "key" .) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Volumes of a component; takes {root, component (of nats.credentials, or empty), storage?, embedding?, tmpSize}. */}}
{{- define "imago.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .tmpSize | default "256Mi" }}}
{{- if .component }}
{{- $credential := include "imago.natsCredential" . | fromJson }}
{{- if eq ($credential.method | default "") "creds" }}
- name: nats-creds
  secret: {secretName: {{ $credential.existingSecret }}, defaultMode: 288}
{{- end }}
{{- with .root.Values.nats.tls.existingSecret }}
- name: nats-tls
  secret: {secretName: {{ . }}, defaultMode: 288}
{{- end }}
{{- end }}
{{- if and .storage (eq .root.Values.storage.backend "local") }}
- name: objects
  persistentVolumeClaim: {claimName: {{ include "imago.claim" .root }}}
{{- end }}
{{- if and .embedding .root.Values.workers.embed.enabled }}
- name: embedding-model
{{ toYaml .root.Values.workers.embed.model.volume | indent 2 }}
{{- end }}
{{- with (.values | default dict).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "imago.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .component }}
{{- $credential := include "imago.natsCredential" . | fromJson }}
{{- if eq ($credential.method | default "") "creds" }}
- {name: nats-creds, mountPath: /etc/imago/nats-creds, readOnly: true}
{{- end }}
{{- if .root.Values.nats.tls.existingSecret }}
- {name: nats-tls, mountPath: /etc/imago/nats-tls, readOnly: true}
{{- end }}
{{- end }}
{{- if and .storage (eq .root.Values.storage.backend "local") }}
- {name: objects, mountPath: /var/lib/imago/objects}
{{- end }}
{{- if and .embedding .root.Values.workers.embed.enabled }}
- name: embedding-model
  mountPath: {{ include "imago.modelDirectory" .root }}
  readOnly: true
  {{- with .root.Values.workers.embed.model.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with (.values | default dict).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An init container that waits for the current database schema; takes {root, image}. */}}
{{- define "imago.waitForSchema" -}}
- name: wait-for-schema
  image: {{ include "imago.image" . | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [migrate, --wait, --timeout, {{ .root.Values.migrations.waitSeconds | quote }}]
  env:
{{ include "imago.env.common" .root | indent 4 }}
{{ include "imago.env.database" (dict "root" .root) | indent 4 }}
  securityContext:
{{ include "imago.containerSecurity" . | indent 4 }}
  resources:
    requests: {cpu: 10m, memory: 128Mi}
    limits: {memory: 512Mi}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "imago.env.metrics" -}}
- {name: METRICS_CLIENTS, value: {{ join "," .Values.metrics.clients | quote }}}
{{- end -}}
