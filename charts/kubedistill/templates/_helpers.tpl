{{- define "kubedistill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kubedistill.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Name of what belongs to no namespace: two releases of one name in two namespaces must not share it. */}}
{{- define "kubedistill.clusterName" -}}
{{- $name := include "kubedistill.fullname" . }}
{{- eq $name .Release.Namespace | ternary $name (printf "%s-%s" .Release.Namespace $name) }}
{{- end }}

{{- define "kubedistill.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}
{{- include "kubedistill.fullname" . }}
{{- else }}
{{- fail "serviceAccount.create is false: set serviceAccount.name to the ServiceAccount that is there" }}
{{- end }}
{{- end }}

{{- define "kubedistill.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag }}
{{- printf "%s:%s" .Values.image.repository $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "kubedistill.selector" -}}
app.kubernetes.io/name: {{ include "kubedistill.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- /* managed-by Helm, and never kubedistill, which marks the operator's own children. */}}
{{- define "kubedistill.labels" -}}
{{- include "kubedistill.ownLabels" . | fromYaml | mergeOverwrite (dict) .Values.commonLabels | toYaml }}
{{- end }}

{{- define "kubedistill.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "kubedistill.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: kubedistill
{{- end }}

{{- /* Labels that the operator puts on everything that it makes. */}}
{{- define "kubedistill.children" -}}
app.kubernetes.io/managed-by: kubedistill
{{- end }}

{{- define "kubedistill.lease" -}}
{{- include "kubedistill.fullname" . }}-operator
{{- end }}
