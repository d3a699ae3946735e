{{- /* What the operator does in a namespace that it serves. tests/chart compares it with what it is seen to do. */}}
{{- define "kubedistill.served" -}}
- apiGroups: [kubedistill.io]
  resources: [distillationjobs, teacherprobes, distillationstudies]
  verbs: [list, watch, delete]
- apiGroups: [kubedistill.io]
  resources: [distillationjobs/status, teacherprobes/status, distillationstudies/status]
  verbs: [patch]
# Asked for where the plugin OwnerReferencesPermissionEnforcement is on, as in OpenShift.
- apiGroups: [kubedistill.io]
  resources: [distillationjobs/finalizers, teacherprobes/finalizers, distillationstudies/finalizers]
  verbs: [update]
- apiGroups: [kubedistill.io]
  resources: [distillationruntimes]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, create, update, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "kubedistill.lease" . }}]
  verbs: [list, watch]
{{- end }}

{{- /* In the namespace of its Lease, which it watches as it watches those it serves. */}}
{{- define "kubedistill.own" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "kubedistill.lease" . }}]
  verbs: [get, update, list, watch]
{{- if .Values.watchNamespaces }}
- apiGroups: [kubedistill.io]
  resources: [distillationjobs, teacherprobes, distillationstudies, distillationruntimes]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods, configmaps]
  verbs: [list, watch]
{{- end }}
{{- end }}

{{- define "kubedistill.subject" -}}
- kind: ServiceAccount
  name: {{ include "kubedistill.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
