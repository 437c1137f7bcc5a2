package disk

// sysSyncfs is the number of syncfs(2), which package syscall does not have here.
const sysSyncfs = 344
