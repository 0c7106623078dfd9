{{/* Small objects that several components share. */}}

{{/* A ServiceAccount; takes {root, component, account}. */}}
{{- define "imago.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "imago.serviceAccount" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
{{ include "imago.labels" . | indent 4 }}
  {{- with .account.annotations }}
  annotations:
{{ toYaml . | indent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{/* A HorizontalPodAutoscaler; takes {root, component, name, autoscaling}. */}}
{{- define "imago.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
{{ include "imago.labels" . | indent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicas: {{ .autoscaling.minReplicas }}
  maxReplicas: {{ .autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .autoscaling.targetCPUUtilizationPercentage }}}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 300
{{- end -}}

{{/* A PodDisruptionBudget; takes {root, component, name, budget}. `minAvailable` would let a worker with one pod block drains. */}}
{{- define "imago.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
{{ include "imago.labels" . | indent 4 }}
spec:
  maxUnavailable: {{ .budget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
{{ include "imago.selector" . | indent 6 }}
{{- end -}}

{{/* The head of a NetworkPolicy; takes {root, name, components?}. */}}
{{- define "imago.policy" -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "imago.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
{{ include "imago.labels" (dict "root" .root "component" "network") | indent 4 }}
spec:
  podSelector:
{{ include "imago.pods" . | indent 4 }}
{{- end -}}

{{/* A selector of the release's pods; takes {root, components?}, by default all components. */}}
{{- define "imago.pods" -}}
matchLabels:
{{ include "imago.release" .root | indent 2 }}
{{- with .components }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: {{ toJson . }}}
{{- end }}
{{- end -}}
