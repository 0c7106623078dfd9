{{/* What can't work is refused before anything is installed: all of it at once. */}}
{{- define "imago.validate" -}}
{{- $wrong := list -}}
{{- $v := .Values -}}
{{- if not (or $v.secrets.existingSecret $v.secrets.generate) -}}
{{- $wrong = append $wrong "secrets.existingSecret: name the Secret with the platform's keys (or secrets.generate, for trying out)" -}}
{{- end -}}
{{- if and $v.postgresql.bundled.enabled $v.database.existingSecret -}}
{{- $wrong = append $wrong "database.existingSecret and postgresql.bundled.enabled: choose one" -}}
{{- end -}}
{{- if not (or $v.postgresql.bundled.enabled $v.database.existingSecret) -}}
{{- $wrong = append $wrong "database.existingSecret: name the Secret with PostgreSQL's URL (or postgresql.bundled.enabled, for trying out)" -}}
{{- end -}}
{{- if and $v.nats.bundled.enabled $v.nats.url -}}
{{- $wrong = append $wrong "nats.url and nats.bundled.enabled: choose one" -}}
{{- end -}}
{{- if not (or $v.nats.bundled.enabled $v.nats.url) -}}
{{- $wrong = append $wrong "nats.url: name the NATS servers (or nats.bundled.enabled, for trying out)" -}}
{{- end -}}
{{- if and $v.keda.enabled (not (include "imago.monitoringEndpoint" .)) -}}
{{- $wrong = append $wrong "nats.monitoringEndpoint: KEDA needs host and port of the headless NATS service, port 8222 (or keda.enabled=false)" -}}
{{- end -}}
{{- if contains "://" $v.nats.monitoringEndpoint -}}
{{- $wrong = append $wrong "nats.monitoringEndpoint: host and port without a scheme" -}}
{{- end -}}
{{- if and (eq $v.storage.backend "s3") (not $v.storage.s3.bucket) -}}
{{- $wrong = append $wrong "storage.s3.bucket: name the bucket" -}}
{{- end -}}
{{- if eq $v.storage.backend "local" -}}
{{- if and (not (has "ReadWriteMany" $v.storage.local.accessModes)) (not $v.storage.local.singleNode) -}}
{{- $wrong = append $wrong "storage.local: API and workers are several pods that share the files: give a ReadWriteMany volume, or set storage.local.singleNode on a cluster of one node" -}}
{{- end -}}
{{- if and (not (has "ReadWriteMany" $v.storage.local.accessModes)) (or $v.api.autoscaling.enabled (gt (int $v.api.replicas) 1)) -}}
{{- $wrong = append $wrong "storage.local: more than one API pod needs a ReadWriteMany volume; set api.replicas=1 and api.autoscaling.enabled=false" -}}
{{- end -}}
{{- end -}}
{{- if and $v.operator.dedicated.enabled (not $v.keda.enabled) -}}
{{- $wrong = append $wrong "operator.dedicated.enabled: dedicated workers need keda.enabled" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- $wrong = append $wrong "ingress.hosts: name a host" -}}
{{- end -}}
{{- if and (or $v.ai.geminiApiKeyKey $v.ai.openrouterApiKeyKey) (not $v.ai.existingSecret) -}}
{{- $wrong = append $wrong "ai.existingSecret: name the Secret that has the providers' keys" -}}
{{- end -}}
{{- if and (has $v.ai.provider (list "gemini" "openrouter")) (not $v.ai.existingSecret) -}}
{{- $wrong = append $wrong (printf "ai.existingSecret: the provider %s needs a key" $v.ai.provider) -}}
{{- end -}}
{{- $longest := 0 -}}
{{- range $kind := list "exif" "ocr" "vision" -}}
{{- $longest = max $longest (include "imago.longest" (dict "root" $ "kind" $kind) | int) -}}
{{- end -}}
{{- if and (ne $v.ai.provider "offline") (le (int $v.workers.vision.timeouts.vision) (mul 2 (int $v.ai.timeout) | int)) -}}
{{- $wrong = append $wrong "workers.vision.timeouts.vision: longer than twice ai.timeout, which is the patience for a provider" -}}
{{- end -}}
{{- if and $v.keda.enabled (lt (int $v.keda.scaleDownSeconds) (int $longest)) -}}
{{- $wrong = append $wrong (printf "keda.scaleDownSeconds: %d is shorter than the longest stage, %d s; pods at work would be taken away" (int $v.keda.scaleDownSeconds) (int $longest)) -}}
{{- end -}}
{{- if $v.networkPolicy.enabled -}}
{{- if and (not $v.postgresql.bundled.enabled) (not $v.networkPolicy.database.to) -}}
{{- $wrong = append $wrong "networkPolicy.database.to: say where PostgreSQL is (NetworkPolicyPeers, for example [{ipBlock: {cidr: 10.0.8.0/24}}])" -}}
{{- end -}}
{{- if and (not $v.nats.bundled.enabled) (not $v.networkPolicy.nats.to) -}}
{{- $wrong = append $wrong "networkPolicy.nats.to: say where NATS is" -}}
{{- end -}}
{{- if and (eq $v.storage.backend "s3") (not $v.networkPolicy.s3.to) -}}
{{- $wrong = append $wrong "networkPolicy.s3.to: say where S3 is" -}}
{{- end -}}
{{- if and (ne $v.api.service.type "ClusterIP") (not $v.networkPolicy.apiFrom) -}}
{{- $wrong = append $wrong (printf "networkPolicy.apiFrom: say who may call the API through its %s" $v.api.service.type) -}}
{{- end -}}
{{- if and $v.telemetry.otlpEndpoint (not $v.networkPolicy.otlp.to) -}}
{{- $wrong = append $wrong "networkPolicy.otlp.to: say where the collector is" -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nThe values need:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}
