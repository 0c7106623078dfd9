{{/* Reject values that cannot work before anything is installed, and report all of them. */}}
{{- define "imago.validate" -}}
{{- $wrong := list -}}
{{- $v := .Values -}}
{{- if not (or $v.secrets.existingSecret $v.secrets.generate) -}}
{{- $wrong = append $wrong "secrets.existingSecret: the name of the Secret with the platform's keys (or secrets.generate=true, for evaluation)" -}}
{{- end -}}
{{- if and $v.postgresql.bundled.enabled $v.database.existingSecret -}}
{{- $wrong = append $wrong "database.existingSecret and postgresql.bundled.enabled: choose one" -}}
{{- end -}}
{{- if not (or $v.postgresql.bundled.enabled $v.database.existingSecret) -}}
{{- $wrong = append $wrong "database.existingSecret: the name of the Secret with PostgreSQL's URL (or postgresql.bundled.enabled=true, for evaluation)" -}}
{{- end -}}
{{- if and $v.nats.bundled.enabled $v.nats.url -}}
{{- $wrong = append $wrong "nats.url and nats.bundled.enabled: choose one" -}}
{{- end -}}
{{- if not (or $v.nats.bundled.enabled $v.nats.url) -}}
{{- $wrong = append $wrong "nats.url: the URLs of the NATS servers (or nats.bundled.enabled=true, for evaluation)" -}}
{{- end -}}
{{- if and $v.keda.enabled (not (include "imago.monitoringEndpoint" .)) -}}
{{- $wrong = append $wrong "nats.monitoringEndpoint: for KEDA, host and port of the headless NATS service, port 8222 (or keda.enabled=false)" -}}
{{- end -}}
{{- if contains "://" $v.nats.monitoringEndpoint -}}
{{- $wrong = append $wrong "nats.monitoringEndpoint: host and port without a scheme" -}}
{{- end -}}
{{- if and (eq $v.storage.backend "s3") (not $v.storage.s3.bucket) -}}
{{- $wrong = append $wrong "storage.s3.bucket: the name of the bucket" -}}
{{- end -}}
{{- if eq $v.storage.backend "local" -}}
{{- if and (not (has "ReadWriteMany" $v.storage.local.accessModes)) (not $v.storage.local.singleNode) -}}
{{- $wrong = append $wrong "storage.local: API and workers are several pods that share the files; use a ReadWriteMany volume, or set storage.local.singleNode=true in a cluster with one node" -}}
{{- end -}}
{{- if and (not (has "ReadWriteMany" $v.storage.local.accessModes)) (or $v.api.autoscaling.enabled (gt (int $v.api.replicas) 1)) -}}
{{- $wrong = append $wrong "storage.local: more than one API pod requires a ReadWriteMany volume; set api.replicas=1 and api.autoscaling.enabled=false" -}}
{{- end -}}
{{- end -}}
{{- if and $v.operator.dedicated.enabled (not $v.keda.enabled) -}}
{{- $wrong = append $wrong "operator.dedicated.enabled: dedicated workers need keda.enabled=true" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- $wrong = append $wrong "ingress.hosts: at least one host" -}}
{{- end -}}
{{- if and (or $v.ai.geminiApiKeyKey $v.ai.openrouterApiKeyKey) (not $v.ai.existingSecret) -}}
{{- $wrong = append $wrong "ai.existingSecret: the name of the Secret with the providers' keys" -}}
{{- end -}}
{{- if and (has $v.ai.provider (list "gemini" "openrouter")) (not $v.ai.existingSecret) -}}
{{- $wrong = append $wrong (printf "ai.existingSecret: the name of the Secret with the key of the provider %s" $v.ai.provider) -}}
{{- end -}}
{{- $longest := 0 -}}
{{- if and $v.workers.embed.enabled (not $v.workers.embed.model.volume) -}}
{{- $wrong = append $wrong "workers.embed.model.volume: the volume with the model (for example {persistentVolumeClaim: {claimName: clip}})" -}}
{{- end -}}
{{- range $kind := keys (include "imago.stages" . | fromJson) | sortAlpha -}}
{{- $longest = max $longest (include "imago.longest" (dict "root" $ "kind" $kind) | int) -}}
{{- end -}}
{{- if and (ne $v.ai.provider "offline") (le (int $v.workers.vision.timeouts.vision) (mul 2 (int $v.ai.timeout) | int)) -}}
{{- $wrong = append $wrong "workers.vision.timeouts.vision: more than twice ai.timeout, the limit for a call to a provider with its retries" -}}
{{- end -}}
{{- if and $v.keda.enabled (lt (int $v.keda.scaleDownSeconds) (int $longest)) -}}
{{- $wrong = append $wrong (printf "keda.scaleDownSeconds: %d is shorter than the longest stage, %d s; busy pods would be terminated" (int $v.keda.scaleDownSeconds) (int $longest)) -}}
{{- end -}}
{{- if $v.networkPolicy.enabled -}}
{{- if and (not $v.postgresql.bundled.enabled) (not $v.networkPolicy.database.to) -}}
{{- $wrong = append $wrong "networkPolicy.database.to: the peers of PostgreSQL (NetworkPolicyPeers, for example [{ipBlock: {cidr: 10.0.8.0/24}}])" -}}
{{- end -}}
{{- if and (not $v.nats.bundled.enabled) (not $v.networkPolicy.nats.to) -}}
{{- $wrong = append $wrong "networkPolicy.nats.to: the peers of NATS" -}}
{{- end -}}
{{- if and (eq $v.storage.backend "s3") (not $v.networkPolicy.s3.to) -}}
{{- $wrong = append $wrong "networkPolicy.s3.to: the peers of S3" -}}
{{- end -}}
{{- if and (ne $v.api.service.type "ClusterIP") (not $v.networkPolicy.apiFrom) -}}
{{- $wrong = append $wrong (printf "networkPolicy.apiFrom: the peers that may call the API through its %s" $v.api.service.type) -}}
{{- end -}}
{{- if and $v.telemetry.otlpEndpoint (not $v.networkPolicy.otlp.to) -}}
{{- $wrong = append $wrong "networkPolicy.otlp.to: the peers of the collector" -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nInvalid or missing values:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}
