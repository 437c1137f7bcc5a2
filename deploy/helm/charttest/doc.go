// Package charttest renders the Helm chart for tests, and knows of Kubernetes what they
// look at: objects, the pods in them, and the schemas that describe both.
//
// It has no types of Kubernetes' own: what an object may say is for [Schemas] to know,
// which are cut from what Kubernetes publishes, and for an API server.
package charttest
