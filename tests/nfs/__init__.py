"""The lock library on real NFS, from two hosts: see lab/nfs. Run by `make test-nfs`."""
