"""Offline side of zeroloss: from core-loss physics to model packages."""
