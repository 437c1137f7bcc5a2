// Package acr gets logins for the registries of Azure.
//
// Who weir is comes from the environment, as Azure's own clients have it:
//
//   - a client secret: AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET;
//   - workload identity: AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE;
//   - else the managed identity of the machine, the one of AZURE_CLIENT_ID if it has
//     several, from its metadata server (AZURE_POD_IDENTITY_AUTHORITY_HOST).
//
// A token of Entra ID (from AZURE_AUTHORITY_HOST) is exchanged at the registry for a
// refresh token of the registry's own, which its token server takes for some hours.
package acr
