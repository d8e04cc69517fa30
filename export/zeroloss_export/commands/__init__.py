"""Subcommands of zeroloss-export that fill a module of their own."""
