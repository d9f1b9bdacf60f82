{{- define "thinkline.name" -}}
{{- if contains "thinkline" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-thinkline" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "thinkline.selector" -}}
app.kubernetes.io/name: thinkline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "thinkline.labels" -}}
{{ include "thinkline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "thinkline.meta" -}}
name: {{ include "thinkline.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "thinkline.labels" . | nindent 2 }}
{{- end }}

{{- define "thinkline.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "thinkline.name" .) }}
{{- end }}

{{- define "thinkline.secret" -}}
{{ .Values.secret.name | default (include "thinkline.name" .) }}
{{- end }}

{{/* The settings that come from the Secret. */}}
{{- define "thinkline.secretKeys" -}}
{{- if .Values.secret.external.enabled }}{{ keys .Values.secret.external.remote | sortAlpha | toJson }}
{{- else if .Values.secret.create }}{{ keys .Values.secret.create | sortAlpha | toJson }}
{{- else }}{{ .Values.secret.keys | toJson }}
{{- end }}
{{- end }}
